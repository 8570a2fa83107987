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

{{/* An image by its values and the tag that stands in for an empty one. */}}
{{- define "multus.imageOf" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .tag .image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "multus.image" -}}
{{- include "multus.imageOf" (dict "image" .Values.image "tag" .Chart.AppVersion) -}}
{{- end -}}

{{- define "multus.pluginsImage" -}}
{{- include "multus.imageOf" (dict "image" .Values.cniPlugins.image "tag" .Chart.AppVersion) -}}
{{- end -}}

{{- define "multus.platform" -}}
{{- $talos := .Values.multus.integrations.talos.enabled -}}
{{- if and $talos .Values.platform (ne .Values.platform "talos") -}}
{{- fail (printf "platform is %s, but multus.integrations.talos.enabled says talos: set one of them" .Values.platform) -}}
{{- end -}}
{{- if $talos -}}talos{{- else -}}{{- default "generic" .Values.platform -}}{{- end -}}
{{- end -}}

{{/* The folders that container runtimes of each distribution are configured with. */}}
{{- define "multus.platforms" -}}
generic:   {cniconf: /etc/cni/net.d, cnibin: /opt/cni/bin}
k3s:       {cniconf: /var/lib/rancher/k3s/agent/etc/cni/net.d, cnibin: /var/lib/rancher/k3s/data/cni}
rke2:      {cniconf: /etc/cni/net.d, cnibin: /opt/cni/bin}
talos:     {cniconf: /etc/cni/net.d, cnibin: /opt/cni/bin}
microk8s:  {cniconf: /var/snap/microk8s/current/args/cni-network, cnibin: /var/snap/microk8s/current/opt/cni/bin, kubelet: /var/snap/microk8s/common/var/lib/kubelet}
k0s:       {cniconf: /etc/cni/net.d, cnibin: /opt/cni/bin, kubelet: /var/lib/k0s/kubelet}
openshift: {cniconf: /etc/kubernetes/cni/net.d, cnibin: /var/lib/cni/bin, seLinuxType: spc_t}
gke:       {cniconf: /etc/cni/net.d, cnibin: /home/kubernetes/bin}
minikube:  {cniconf: /etc/cni/net.d, cnibin: /opt/cni/bin}
{{- end -}}

{{- define "multus.ofPlatform" -}}
{{- get (get (fromYaml (include "multus.platforms" .root)) (include "multus.platform" .root)) .key | default "" -}}
{{- end -}}

{{- define "multus.cniconf" -}}
{{- default (include "multus.ofPlatform" (dict "root" . "key" "cniconf")) .Values.persistence.cniconf.hostPath -}}
{{- end -}}

{{- define "multus.cnibin" -}}
{{- default (include "multus.ofPlatform" (dict "root" . "key" "cnibin")) .Values.persistence.cnibin.hostPath -}}
{{- end -}}

{{- define "multus.kubelet" -}}
{{- default (include "multus.ofPlatform" (dict "root" . "key" "kubelet") | default "/var/lib/kubelet") .Values.persistence.kubelet.hostPath -}}
{{- end -}}

{{/* "current" is a link that updates move: what is above it is mounted, and the link followed at each look. */}}
{{- define "multus.mounted" -}}
{{- regexReplaceAll "/current(/.*)?$" . "" -}}
{{- end -}}

{{- define "multus.confArgs" -}}
- --cni-conf-dir={{ .Values.persistence.cniconf.mountPath }}
- --host-cni-conf-dir={{ include "multus.cniconf" . }}
{{- $mounted := include "multus.mounted" (include "multus.cniconf" .) }}
{{- if ne $mounted (include "multus.cniconf" .) }}
- --host-cni-conf-mount={{ $mounted }}
{{- end }}
{{- end -}}

{{/* The file that has to exist before anything is attached; empty for none. */}}
{{- define "multus.readinessIndicator" -}}
{{- $m := .Values.multus -}}
{{- if $m.readinessIndicatorFile -}}
{{- $m.readinessIndicatorFile -}}
{{- else if $m.readinessIndicatorEnabled -}}
{{- if not $m.primaryCniConfigFile -}}
{{- fail "multus.readinessIndicatorEnabled awaits the primary's file: set multus.primaryCniConfigFile, or multus.readinessIndicatorFile instead" -}}
{{- end -}}
{{- if hasPrefix "/" $m.primaryCniConfigFile -}}
{{- $m.primaryCniConfigFile -}}
{{- else -}}
{{- printf "%s/%s" (include "multus.cniconf" .) $m.primaryCniConfigFile -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The folder to mount for the indicator; empty if the CNI config folder has it, or if it is nobody's own. */}}
{{- define "multus.readinessIndicatorFolder" -}}
{{- $file := include "multus.readinessIndicator" . -}}
{{- $shared := list "/" "/run" "/var/run" "/tmp" "/etc" "/var" "/var/lib" "/usr" "/opt" "/home" "/root" "/dev" "/proc" "/sys" -}}
{{- if and $file (not (hasPrefix (printf "%s/" (include "multus.mounted" (include "multus.cniconf" .))) $file)) (not (has (dir $file) $shared)) -}}
{{- dir $file -}}
{{- end -}}
{{- end -}}

{{/* Whether the config program can see the indicator; else the plugin alone awaits it. */}}
{{- define "multus.readinessIndicatorSeen" -}}
{{- $file := include "multus.readinessIndicator" . -}}
{{- if and $file (or (include "multus.readinessIndicatorFolder" .) (hasPrefix (printf "%s/" (include "multus.mounted" (include "multus.cniconf" .))) $file)) -}}
{{- $file -}}
{{- end -}}
{{- end -}}

{{/* Names of the reference plugins to install, by comma; the values of any platform win over Talos's. */}}
{{- define "multus.referencePlugins" -}}
{{- $wanted := dict -}}
{{- if .Values.multus.integrations.talos.enabled -}}
{{- $wanted = merge $wanted (default dict .Values.multus.integrations.talos.installCni) -}}
{{- end -}}
{{- range $name, $on := default dict .Values.cniPlugins.install }}{{ $_ := set $wanted $name $on }}{{ end -}}
{{- $names := list -}}
{{- range $name := keys $wanted | sortAlpha }}{{ if get $wanted $name }}{{ $names = append $names $name }}{{ end }}{{ end -}}
{{- join "," $names -}}
{{- end -}}

{{/* What the plugin reads from its entry in the CNI config; only what is set. */}}
{{- define "multus.options" -}}
{{- $m := .Values.multus -}}
{{- $o := dict "namespaceIsolation" $m.namespaceIsolation "daemonWaitSeconds" (int $m.daemonWaitSeconds) "addDeadlineSeconds" (int $m.addDeadlineSeconds) "delDeadlineSeconds" (int $m.delDeadlineSeconds) "readinessWaitSeconds" (int $m.readinessWaitSeconds) "statusPolicy" $m.statusPolicy -}}
{{- $_ := set $o "systemNamespaces" (default (list "kube-system" .Release.Namespace | uniq) $m.systemNamespaces) -}}
{{- $_ := set $o "retryDeleteOnError" $m.retryDeleteOnError -}}
{{- $_ := set $o "logLevel" $m.logLevel -}}
{{- $_ := set $o "logToStderr" $m.logToStderr -}}
{{- with $m.globalNamespaces }}{{ $_ := set $o "globalNamespaces" (join "," .) }}{{ end -}}
{{- with include "multus.readinessIndicator" . }}{{ $_ := set $o "readinessindicatorfile" . }}{{ end -}}
{{- range $key := list "defaultNetworks" "multusNamespace" "allowedPlugins" "strict" "clusterCIDRs" "confDir" "binDir" "auxiliaryCNIChainName" "logFile" "logOptions" "capabilities" -}}
{{- with get $m $key }}{{ $_ := set $o $key . }}{{ end -}}
{{- end -}}
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
{{- $se := .Values.seLinuxOptions -}}
{{- $type := include "multus.ofPlatform" (dict "root" . "key" "seLinuxType") -}}
{{- if and $type (not $se) }}{{ $se = dict "type" $type }}{{ end }}
{{- with $se }}
seLinuxOptions:
  {{- toYaml . | nindent 2 }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* One installer: from which image, what, and whether it stays. */}}
{{- define "multus.installer" -}}
{{- $root := .root -}}
- name: {{ .name }}
  image: {{ .image }}
  imagePullPolicy: {{ .pullPolicy }}
  command: [/install]
  args:
    {{- range .plugins }}
    - --plugin={{ . }}
    {{- end }}
    {{- range .args }}
    - {{ . }}
    {{- end }}
    - --bin-dir={{ $root.Values.persistence.cnibin.mountPath }}
    - --host-bin-dir={{ include "multus.cnibin" $root }}
    {{- $mounted := include "multus.mounted" (include "multus.cnibin" $root) }}
    {{- if ne $mounted (include "multus.cnibin" $root) }}
    - --host-bin-mount={{ $mounted }}
    {{- end }}
    {{- if $root.Values.install.overwrite }}
    - --overwrite
    {{- end }}
  terminationMessagePolicy: FallbackToLogsOnError
  securityContext:
    {{- include "multus.securityContext" $root | nindent 4 }}
  resources:
    {{- toYaml $root.Values.resources.install | nindent 4 }}
  volumeMounts:
    - {name: cni-bin, mountPath: {{ $root.Values.persistence.cnibin.mountPath }}}
    - {name: state, mountPath: /host/var/lib/cni/multus-rs}
{{- end -}}

{{/* All installers; "watch" of them stay. */}}
{{- define "multus.installers" -}}
{{- $root := .root -}}
{{- $suffix := "" -}}{{- $args := list -}}
{{- if .watch }}{{ $suffix = "-watch" }}{{ $args = list "--watch" }}{{ end -}}
{{- if $root.Values.install.enabled }}
{{ include "multus.installer" (dict "root" $root "name" (print "install" $suffix) "image" (include "multus.image" $root) "pullPolicy" $root.Values.image.pullPolicy "plugins" (list "multus-shim" "passthru") "args" $args) }}
{{- end -}}
{{- with include "multus.referencePlugins" $root }}
{{ include "multus.installer" (dict "root" $root "name" (print "cni-plugins" $suffix) "image" (include "multus.pluginsImage" $root) "pullPolicy" $root.Values.cniPlugins.image.pullPolicy "plugins" (splitList "," .) "args" (concat (list "--source-dir=/cni" "--reference") $args)) }}
{{- end -}}
{{- end -}}
