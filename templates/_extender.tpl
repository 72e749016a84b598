{{- /*
The extender as a native sidecar: it is there before kube-scheduler starts and stays until that has ended.
Its probes run inside the container, because it listens on loopback, where the kubelet cannot ask.
*/ -}}
{{- define "stowage.extender" -}}
name: extender
image: {{ include "stowage.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
restartPolicy: Always
args:
  - serve
  - --policy={{ include "stowage.policy" . }}
  - --fallback={{ .Values.extender.fallback }}
  {{- with .Values.extender.scoring }}
  - {{ printf "--scoring=%s" (toJson .) | quote }}
  {{- end }}
  - --host={{ ternary "0.0.0.0" "127.0.0.1" .Values.metrics.enabled }}
  - --http-port=8888
  - --grpc-port=8889
  - --assume-ttl={{ .Values.extender.assumeTtl }}
  - --log-level={{ .Values.extender.logLevel }}
  {{- range .Values.extender.extraArgs }}
  - {{ . | quote }}
  {{- end }}
{{- if .Values.metrics.enabled }}
ports:
  - name: metrics
    containerPort: 8888
{{- end }}
startupProbe:
  exec:
    command: [python, -m, extender.probe, "http://127.0.0.1:8888/readyz"]
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 60
readinessProbe:
  exec:
    command: [python, -m, extender.probe, "http://127.0.0.1:8888/readyz"]
  periodSeconds: 10
  timeoutSeconds: 5
livenessProbe:
  exec:
    command: [python, -m, extender.probe, "http://127.0.0.1:8888/healthz"]
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
resources:
  {{- toYaml .Values.extender.resources | nindent 2 }}
securityContext:
  {{- include "stowage.containerSecurity" . | nindent 2 }}
{{- if .Values.policy.from }}
volumeMounts:
  - name: policy
    mountPath: {{ include "stowage.policyDirectory" . }}
    readOnly: true
{{- end }}
{{- end -}}
