{{- define "stowage.scheduler" -}}
name: kube-scheduler
image: {{ include "stowage.schedulerImage" . }}
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

{{- /* The same as manifests/kube-scheduler/configuration.yaml, which says why it is so. */ -}}
{{- define "stowage.schedulerConfiguration" -}}
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection:
  leaderElect: true
  resourceName: {{ include "stowage.fullname" . }}-scheduler
  resourceNamespace: {{ .Release.Namespace }}
profiles:
  - schedulerName: {{ .Values.scheduler.name }}
    percentageOfNodesToScore: {{ .Values.scheduler.percentageOfNodesToScore }}
    plugins:
      score:
        disabled:
          - name: NodeResourcesFit
          - name: NodeResourcesBalancedAllocation
          - name: ImageLocality
extenders:
  - urlPrefix: http://127.0.0.1:8888
    filterVerb: filter
    prioritizeVerb: prioritize
    weight: {{ .Values.scheduler.weight }}
    nodeCacheCapable: true
    ignorable: true
    httpTimeout: {{ .Values.scheduler.timeout }}
{{- end -}}
