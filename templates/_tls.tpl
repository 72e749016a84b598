{{- /* cert-manager leaves its Secret there: of the same name, helm would not take it over for another source. */ -}}
{{- define "stowage.tlsSecret" -}}
{{- if eq .Values.tls.source "secret" -}}
{{- required "tls.secretName is missing: with tls.source=secret name the one with tls.crt, tls.key and ca.crt" .Values.tls.secretName -}}
{{- else -}}
{{ include "stowage.fullname" . }}-{{ eq .Values.tls.source "certManager" | ternary "cert-manager" "tls" }}
{{- end -}}
{{- end -}}

{{- /* The name that the certificate is for, and that kube-scheduler asks it for whatever address it connects to. */ -}}
{{- define "stowage.serverName" -}}
{{ include "stowage.fullname" . }}.{{ .Release.Namespace }}.svc
{{- end -}}

{{- /* The CA that kube-scheduler is to trust, in base64; empty where it cannot be known yet. */ -}}
{{- define "stowage.caData" -}}
{{- if eq .Values.tls.source "selfSigned" -}}
{{- (include "stowage.selfSigned" . | fromYaml).ca | b64enc -}}
{{- else -}}
{{- $secret := lookup "v1" "Secret" .Release.Namespace (include "stowage.tlsSecret" .) | default dict -}}
{{- index ($secret.data | default dict) "ca.crt" | default "" -}}
{{- end -}}
{{- end -}}

{{- /*
A certificate of our own making, kept from one release to the next as long as it has half of its time left; then it is
made anew by the same CA, which kube-scheduler trusts. Made once per rendering, so that the Secret and the configuration
agree. Where the cluster cannot be looked at (`helm template`) every rendering makes another.
*/ -}}
{{- define "stowage.selfSigned" -}}
{{- if not (hasKey .Release "stowageSelfSigned") -}}
{{- $namespace := .Release.Namespace -}}
{{- $name := include "stowage.serverName" . -}}
{{- $days := .Values.tls.selfSigned.days | int64 -}}
{{- $secret := lookup "v1" "Secret" $namespace (include "stowage.tlsSecret" .) | default dict -}}
{{- $authority := lookup "v1" "Secret" $namespace (printf "%s-ca" (include "stowage.fullname" .)) | default dict -}}
{{- $issued := dig "metadata" "annotations" "stowage.dev/issued" "0" $secret | int64 -}}
{{- $validDays := dig "metadata" "annotations" "stowage.dev/days" ($days | toString) $secret | int64 -}}
{{- $now := now | unixEpoch | int64 -}}
{{- $ca := dict -}}
{{- if $authority.data -}}
{{- $ca = buildCustomCert (index $authority.data "tls.crt") (index $authority.data "tls.key") -}}
{{- else -}}
{{- $ca = genCAWithKey (printf "%s-ca" (include "stowage.fullname" .)) 3650 (genPrivateKey "ecdsa") -}}
{{- end -}}
{{- $result := dict "ca" $ca.Cert "caKey" $ca.Key -}}
{{- if and $authority.data $secret.data (lt (sub $now $issued) (div (mul $validDays 86400) 2)) -}}
{{- $_ := set $result "certificate" (index $secret.data "tls.crt" | b64dec) -}}
{{- $_ := set $result "key" (index $secret.data "tls.key" | b64dec) -}}
{{- $_ := set $result "issued" ($issued | toString) -}}
{{- $_ := set $result "days" ($validDays | toString) -}}
{{- else -}}
{{- $made := genSignedCertWithKey $name nil (list $name (trimSuffix ".svc" $name)) ($days | int) $ca (genPrivateKey "ecdsa") -}}
{{- $_ := set $result "certificate" $made.Cert -}}
{{- $_ := set $result "key" $made.Key -}}
{{- $_ := set $result "issued" ($now | toString) -}}
{{- $_ := set $result "days" ($days | toString) -}}
{{- end -}}
{{- $_ := set .Release "stowageSelfSigned" $result -}}
{{- end -}}
{{- index .Release "stowageSelfSigned" | toYaml -}}
{{- end -}}
