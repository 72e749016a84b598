{{- /* Only kube-scheduler beside it may speak to the extender in plain HTTP. */ -}}
{{- define "stowage.extenderAddress" -}}
{{- ternary "127.0.0.1" "::" (and .Values.scheduler.enabled (not .Values.metrics.enabled)) -}}
{{- end -}}

{{- define "stowage.outcomeDirectory" -}}/etc/stowage/outcome{{- end -}}

{{- define "stowage.tlsDirectory" -}}/etc/stowage/tls{{- end -}}

{{- /*
The extender. Beside kube-scheduler it is a native sidecar: it is there before kube-scheduler starts and stays until that
has ended. Its probes run inside the container then, because the kubelet cannot ask what listens on loopback.
*/ -}}
{{- define "stowage.extender" -}}
name: extender
image: {{ include "stowage.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- if .Values.scheduler.enabled }}
restartPolicy: Always
{{- end }}
args:
  - serve
  - {{ printf "--policy=%s" (include "stowage.policy" .) | quote }}
  {{- if .Values.policy.candidate }}
  - {{ printf "--candidate=%s" (include "stowage.candidate" .) | quote }}
  {{- end }}
  - --mode={{ .Values.extender.mode }}
  - --canary-percent={{ .Values.extender.canaryPercent }}
  - --fallback={{ .Values.extender.fallback }}
  {{- with .Values.extender.scoring }}
  - {{ printf "--scoring=%s" (toJson .) | quote }}
  {{- end }}
  - {{ printf "--host=%s" (include "stowage.extenderAddress" .) | quote }}
  - --http-port=8888
  - --grpc-port=8889
  {{- if not .Values.scheduler.enabled }}
  - --tls-certificate={{ include "stowage.tlsDirectory" . }}/tls.crt
  - --tls-key={{ include "stowage.tlsDirectory" . }}/tls.key
  {{- end }}
  - --deadline={{ .Values.extender.deadline }}
  - --scheduler-name={{ include "stowage.profile" . }}
  {{- with .Values.extender.reservations }}
  - --reserve-after={{ .after }}
  - --reserve-gpus={{ .gpus | int64 }}
  - --reservation-ttl={{ .ttl }}
  - --reservation-events={{ .events }}
  {{- end }}
  {{- if ne .Values.extender.preempt "never" }}
  - --preempt={{ .Values.extender.preempt }}
  {{- end }}
  {{- with .Values.extender.decisionLog }}
  {{- if .enabled }}
  - --decision-log=/var/log/stowage/$(POD_NAME).jsonl
  - --decision-log-file-bytes={{ .fileBytes | int64 }}
  - --decision-log-files={{ .files | int64 }}
  {{- end }}
  {{- end }}
  {{- with .Values.extender.outcome }}
  {{- if .volume }}
  - {{ printf "--outcome-file=%s/%s" (include "stowage.outcomeDirectory" $) .file | quote }}
  - --step-down-after={{ .stepDownAfter }}
  {{- else if .stepDownAfter }}
  {{- fail "extender.outcome.stepDownAfter needs extender.outcome.volume: without verdicts nothing is known to be worse" }}
  {{- end }}
  {{- end }}
  {{- with .Values.extender.traces }}
  {{- if .collector }}
  - {{ printf "--trace-collector=%s" .collector | quote }}
  - --trace-share={{ .share }}
  {{- end }}
  {{- end }}
  - --assume-ttl={{ .Values.extender.assumeTtl }}
  - --log-level={{ .Values.extender.logLevel }}
  - --log-format={{ .Values.extender.logFormat }}
  {{- range .Values.extender.extraArgs }}
  - {{ . | quote }}
  {{- end }}
{{- if .Values.extender.decisionLog.enabled }}
env:
  - name: POD_NAME
    valueFrom:
      fieldRef:
        fieldPath: metadata.name
{{- end }}
{{- if or .Values.metrics.enabled (not .Values.scheduler.enabled) }}
ports:
  - name: extender
    containerPort: 8888
{{- end }}
startupProbe:
  {{- include "stowage.probe" (list . "/readyz") | nindent 2 }}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 60
readinessProbe:
  {{- include "stowage.probe" (list . "/readyz") | nindent 2 }}
  periodSeconds: 10
  timeoutSeconds: 5
livenessProbe:
  {{- include "stowage.probe" (list . "/healthz") | nindent 2 }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
resources:
  {{- toYaml .Values.extender.resources | nindent 2 }}
securityContext:
  {{- include "stowage.containerSecurity" . | nindent 2 }}
{{- if or .Values.policy.from .Values.policy.candidate .Values.extender.decisionLog.enabled .Values.extender.outcome.volume (not .Values.scheduler.enabled) }}
volumeMounts:
  {{- if not .Values.scheduler.enabled }}
  - name: tls
    mountPath: {{ include "stowage.tlsDirectory" . }}
    readOnly: true
  {{- end }}
  {{- if .Values.policy.from }}
  - name: policy
    mountPath: {{ include "stowage.policyDirectory" . }}
    readOnly: true
  {{- end }}
  {{- if .Values.policy.candidate }}
  - name: candidate
    mountPath: {{ include "stowage.candidateDirectory" . }}
    readOnly: true
  {{- end }}
  {{- if .Values.extender.outcome.volume }}
  - name: outcome
    mountPath: {{ include "stowage.outcomeDirectory" . }}
    readOnly: {{ not .Values.extender.outcome.stepDownAfter }}
  {{- end }}
  {{- if .Values.extender.decisionLog.enabled }}
  - name: decisions
    mountPath: /var/log/stowage
  {{- end }}
{{- end }}
{{- end -}}

{{- define "stowage.probe" -}}
{{- $values := (index . 0).Values -}}
{{- if $values.scheduler.enabled -}}
exec:
  command: [python, -m, extender.probe, "http://127.0.0.1:8888{{ index . 1 }}"]
{{- else -}}
httpGet: {path: {{ index . 1 }}, port: extender, scheme: HTTPS}
{{- end -}}
{{- end -}}
