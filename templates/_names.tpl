{{- define "stowage.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* 50 characters leave room for what objects add to it. */ -}}
{{- define "stowage.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "stowage.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "stowage.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* Objects without a namespace of their own, so that two releases of one name do not meet. */ -}}
{{- define "stowage.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "stowage.fullname" .) -}}
{{- end -}}

{{- define "stowage.selectorLabels" -}}
app.kubernetes.io/name: {{ include "stowage.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "stowage.labels" -}}
{{ include "stowage.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- /* Pods beside the deployment's have another name, or its Service and its disruption budget would count them. */ -}}
{{- define "stowage.asideSelectorLabels" -}}
app.kubernetes.io/name: {{ printf "%s-%s" (include "stowage.name" (index . 0) | trunc 50) (index . 1) }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name | quote }}
{{- end -}}

{{- define "stowage.asideLabels" -}}
{{ include "stowage.asideSelectorLabels" . }}
{{- with index . 0 }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}
{{- end -}}

{{- define "stowage.asideMetadata" -}}
namespace: {{ (index . 0).Release.Namespace | quote }}
labels:
  {{- include "stowage.asideLabels" . | nindent 2 }}
{{- end -}}

{{- define "stowage.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "stowage.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is missing: with serviceAccount.create=false name the one to use" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "stowage.image" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}

{{- /* v1.36.3+k3s1 and v1.36.3-gke.1 are v1.36.3 to registry.k8s.io; whoever renders for 1.36 gets v1.36.0. */ -}}
{{- define "stowage.schedulerImage" -}}
{{- $version := regexFind "^v[0-9]+\\.[0-9]+(\\.[0-9]+)?" .Capabilities.KubeVersion.Version -}}
{{- $version = ternary $version (printf "%s.0" $version) (regexMatch "\\..*\\." $version) -}}
{{- printf "%s:%s" .Values.scheduler.image.repository (default $version .Values.scheduler.image.tag) -}}
{{- end -}}

{{- /* What the "restricted" level of Pod Security asks of a container, and a root file system that nobody writes. */ -}}
{{- define "stowage.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- /* Where pods may go: those beside the deployment's, too. */ -}}
{{- define "stowage.placement" -}}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "stowage.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.runAsUser }}
runAsUser: {{ . | int64 }}
runAsGroup: {{ . | int64 }}
fsGroup: {{ . | int64 }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}
