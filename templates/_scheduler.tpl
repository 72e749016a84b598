{{- define "stowage.scheduler" -}}
name: kube-scheduler
image: {{ include "stowage.schedulerImage" . | quote }}
imagePullPolicy: {{ .Values.scheduler.image.pullPolicy }}
command: [kube-scheduler]
args:
  - --config=/etc/stowage/scheduler/configuration.yaml
  - --v={{ .Values.scheduler.verbosity }}
  {{- range .Values.scheduler.extraArgs }}
  - {{ . | quote }}
  {{- end }}
ports:
  - name: https
    containerPort: 10259
startupProbe:
  httpGet: {path: /livez, port: https, scheme: HTTPS}
  periodSeconds: 2
  failureThreshold: 60
readinessProbe:
  httpGet: {path: /readyz, port: https, scheme: HTTPS}
  periodSeconds: 10
livenessProbe:
  httpGet: {path: /livez, port: https, scheme: HTTPS}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
resources:
  {{- toYaml .Values.scheduler.resources | nindent 2 }}
securityContext:
  {{- include "stowage.containerSecurity" . | nindent 2 }}
volumeMounts:
  - name: scheduler
    mountPath: /etc/stowage/scheduler
    readOnly: true
{{- end -}}

{{- /* The profile that the policy decides in: of our own kube-scheduler, or of the one that the extender is added to. */ -}}
{{- define "stowage.profile" -}}
{{- if and .Values.scheduler.enabled (eq .Values.scheduler.name "default-scheduler") -}}
{{- fail "scheduler.name is default-scheduler, which the cluster has: two schedulers would place the same pods; choose another name, or scheduler.enabled=false to add the extender to the one that is there" -}}
{{- end -}}
{{- ternary .Values.scheduler.name "default-scheduler" .Values.scheduler.enabled -}}
{{- end -}}

{{- /* Where kube-scheduler finds the extender; a static pod knows no names of Services, so by address where it is known. */ -}}
{{- define "stowage.extenderHost" -}}
{{- $service := lookup "v1" "Service" .Release.Namespace (include "stowage.fullname" .) | default dict -}}
{{- $known := dig "spec" "clusterIP" "" $service -}}
{{- $address := default $known .Values.service.clusterIP | replace "None" "" -}}
{{- default (include "stowage.serverName" .) (ternary (printf "[%s]" $address) $address (contains ":" $address)) -}}
{{- end -}}

{{- /* An answer may take less time than kube-scheduler waits for it. */ -}}
{{- define "stowage.refuseLateAnswers" -}}
{{- $factors := dict "ms" 0.001 "s" 1.0 "m" 60.0 -}}
{{- $seconds := 0.0 -}}
{{- range regexFindAll "[0-9.]+(ms|s|m)" .Values.scheduler.timeout -1 -}}
{{- $unit := regexFind "[a-z]+" . -}}
{{- $seconds = addf $seconds (mulf (trimSuffix $unit . | float64) (get $factors $unit)) -}}
{{- end -}}
{{- if ge (float64 .Values.extender.deadline) $seconds -}}
{{- fail (printf "extender.deadline is %v s, but kube-scheduler waits for an answer for scheduler.timeout=%s only: it would go on without the policy whenever an answer takes that long" .Values.extender.deadline .Values.scheduler.timeout) -}}
{{- end -}}
{{- end -}}

{{- /* The same as manifests/kube-scheduler/configuration.yaml, which says why it is so. */ -}}
{{- define "stowage.schedulerConfiguration" -}}
{{- include "stowage.refuseLateAnswers" . -}}
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
{{- if .Values.scheduler.enabled }}
leaderElection:
  leaderElect: true
  resourceName: {{ include "stowage.fullname" . }}-scheduler
  resourceNamespace: {{ .Release.Namespace | quote }}
{{- else }}
# With --config, kube-scheduler no longer heeds its flag --kubeconfig; this is where kubeadm has the file.
clientConnection:
  kubeconfig: /etc/kubernetes/scheduler.conf
{{- end }}
profiles:
  - schedulerName: {{ include "stowage.profile" . | quote }}
    percentageOfNodesToScore: {{ .Values.scheduler.percentageOfNodesToScore }}
    plugins:
      score:
        disabled:
          - name: NodeResourcesFit
          - name: NodeResourcesBalancedAllocation
          - name: ImageLocality
extenders:
  {{- if .Values.scheduler.enabled }}
  - urlPrefix: http://127.0.0.1:8888
  {{- else }}
  - urlPrefix: https://{{ include "stowage.extenderHost" . }}:8888
    enableHTTPS: true
    tlsConfig:
      serverName: {{ include "stowage.serverName" . }}
      {{- with include "stowage.caData" . }}
      caData: {{ . | quote }}
      {{- else }}
      caFile: /etc/kubernetes/stowage-ca.crt
      {{- end }}
  {{- end }}
    filterVerb: filter
    prioritizeVerb: prioritize
    {{- if ne .Values.extender.preempt "never" }}
    preemptVerb: preempt
    {{- end }}
    weight: {{ .Values.scheduler.weight | int64 }}
    nodeCacheCapable: true
    ignorable: true
    httpTimeout: {{ .Values.scheduler.timeout }}
{{- end -}}
