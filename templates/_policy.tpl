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
    name: {{ .name | quote }}
{{- end }}
{{- with .secret }}
  secret:
    secretName: {{ .name | quote }}
{{- end }}
{{- with .persistentVolumeClaim }}
  persistentVolumeClaim:
    claimName: {{ .claimName | quote }}
    readOnly: true
{{- end }}
{{- with .image }}
  image:
    reference: {{ .reference | quote }}
    pullPolicy: {{ default "IfNotPresent" .pullPolicy }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "stowage.candidateDirectory" -}}/etc/stowage/candidate{{- end -}}

{{- /* The value of --candidate. */ -}}
{{- define "stowage.candidate" -}}
{{- with .Values.policy.candidate.configMap -}}
{{ include "stowage.candidateDirectory" $ }}/{{ .key }}
{{- end -}}
{{- with .Values.policy.candidate.persistentVolumeClaim -}}
{{ include "stowage.candidateDirectory" $ }}/{{ .path }}
{{- end -}}
{{- end -}}

{{- /* The volume of a policy on trial: there is not always one. */ -}}
{{- define "stowage.candidateVolume" -}}
{{- with .Values.policy.candidate }}
- name: candidate
{{- with .configMap }}
  configMap:
    name: {{ .name | quote }}
    optional: true
{{- end }}
{{- with .persistentVolumeClaim }}
  persistentVolumeClaim:
    claimName: {{ .claimName | quote }}
    readOnly: true
{{- end }}
{{- end }}
{{- end -}}
