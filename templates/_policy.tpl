{{- define "stowage.policyDirectory" -}}/etc/stowage/policy{{- end -}}

{{- /* The value of --policy. */ -}}
{{- define "stowage.policy" -}}
{{- $from := .Values.policy.from -}}
{{- with $from.configMap -}}
{{ include "stowage.policyDirectory" $ }}/{{ .key }}
{{- end -}}
{{- with $from.secret -}}
{{ include "stowage.policyDirectory" $ }}/{{ .key }}
{{- end -}}
{{- with $from.persistentVolumeClaim -}}
{{ include "stowage.policyDirectory" $ }}/{{ .path }}
{{- end -}}
{{- with $from.image -}}
{{ include "stowage.policyDirectory" $ }}/{{ .path }}
{{- end -}}
{{- if not $from -}}
{{ .Values.policy.name }}
{{- end -}}
{{- end -}}

{{- /* The volume of a policy that does not come with the image. */ -}}
{{- define "stowage.policyVolume" -}}
{{- with .Values.policy.from }}
- name: policy
{{- with .configMap }}
  configMap:
    name: {{ .name }}
{{- end }}
{{- with .secret }}
  secret:
    secretName: {{ .name }}
{{- end }}
{{- with .persistentVolumeClaim }}
  persistentVolumeClaim:
    claimName: {{ .claimName }}
    readOnly: true
{{- end }}
{{- with .image }}
  image:
    reference: {{ .reference }}
    pullPolicy: {{ default "IfNotPresent" .pullPolicy }}
{{- end }}
{{- end }}
{{- end -}}
