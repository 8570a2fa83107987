{{- define "multus.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "multus.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "multus.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "multus.selectorLabels" -}}
app.kubernetes.io/name: {{ include "multus.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "multus.labels" -}}
{{ include "multus.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "multus.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "multus.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "multus.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* What the plugin reads from its entry in the CNI config; only what is set. */}}
{{- define "multus.options" -}}
{{- $o := dict "namespaceIsolation" .Values.multus.namespaceIsolation "daemonWaitSeconds" (int .Values.multus.daemonWaitSeconds) -}}
{{- with .Values.multus.globalNamespaces }}{{ $_ := set $o "globalNamespaces" (join "," .) }}{{ end -}}
{{- with .Values.multus.readinessIndicatorFile }}{{ $_ := set $o "readinessindicatorfile" . }}{{ end -}}
{{- toJson $o -}}
{{- end -}}

{{/* The words of Multus for what Rust programs call otherwise. */}}
{{- define "multus.logLevel" -}}
{{- get (dict "debug" "debug" "verbose" "info" "error" "error" "panic" "error") .Values.multus.logLevel -}}
{{- end -}}

{{/* The files belong to root, so the user is root; it has nothing else of root. */}}
{{- define "multus.securityContext" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
runAsUser: 0
runAsGroup: 0
seccompProfile:
  type: RuntimeDefault
{{- end -}}
