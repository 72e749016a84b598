{{- /* Values that contradict each other: one of them would be passed over in silence. */ -}}
{{- define "stowage.refuseContradictions" -}}
{{- with .Values.policy -}}
{{- if and .from (ne .name "bundled:latency") -}}
{{- fail (printf "policy.name=%s and policy.from are both given: one policy answers; leave out policy.name to serve the file" .name) -}}
{{- end -}}
{{- if and (not .from) (hasPrefix "heuristic:" .name) (eq $.Values.extender.fallback "fgd") -}}
{{- fail (printf "extender.fallback=fgd needs the typical pods of a policy file, and policy.name=%s is none; choose another fallback, or a policy" .name) -}}
{{- end -}}
{{- end -}}
{{- with .Values.extender.decisionLog -}}
{{- if and .volume (not .enabled) -}}
{{- fail "extender.decisionLog.volume is given, but extender.decisionLog.enabled=false: nothing would be written there" -}}
{{- end -}}
{{- end -}}
{{- with .Values.tls -}}
{{- if and .secretName (ne .source "secret") -}}
{{- fail (printf "tls.secretName=%s needs tls.source=secret: with tls.source=%s the certificate lies in the release's own Secret" .secretName .source) -}}
{{- end -}}
{{- end -}}
{{- end -}}
