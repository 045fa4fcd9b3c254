{{- /*
kruise.gate: "true" if the gate named by .gate is on, else "". As in the programs: explicit settings win over AllAlpha and
AllBeta, those over defaults (files/gates.yaml), and gates that need others follow them (platform 3.4).
*/}}
{{- define "kruise.gate" -}}
{{- $set := dict }}
{{- range $pair := splitList "," (include "kruise.featureGates" .root) }}
{{- $kv := splitn "=" 2 (trim $pair) }}
{{- if $kv._1 }}{{- $_ := set $set (trim $kv._0) (has (trim $kv._1) (list "true" "True" "TRUE" "t" "T" "1")) }}{{- end }}
{{- end }}
{{- $gate := get (.root.Files.Get "files/gates.yaml" | fromYaml) .gate }}
{{- $on := $gate.default }}
{{- if hasKey $set .gate }}{{- $on = get $set .gate }}
{{- else if and (eq $gate.stage "ALPHA") (hasKey $set "AllAlpha") }}{{- $on = $set.AllAlpha }}
{{- else if and (eq $gate.stage "BETA") (hasKey $set "AllBeta") }}{{- $on = $set.AllBeta }}
{{- end }}
{{- $needsDaemon := list "DaemonWatchingPod" "PodProbeMarkerGate" "ImagePullJobGate" "PreDownloadImageForInPlaceUpdate" "PreDownloadImageForDaemonSetUpdate" "DaemonRestrictionWebhook" }}
{{- if has .gate $needsDaemon }}
{{- $daemon := include "kruise.gate" (dict "root" .root "gate" "KruiseDaemon") }}
{{- if and $daemon (eq .gate "ImagePullJobGate") }}
{{- if include "kruise.gate" (dict "root" .root "gate" "PreDownloadImageForInPlaceUpdate") }}{{- $on = true }}{{- end }}
{{- if include "kruise.gate" (dict "root" .root "gate" "PreDownloadImageForDaemonSetUpdate") }}{{- $on = true }}{{- end }}
{{- end }}
{{- if not $daemon }}{{- $on = false }}{{- end }}
{{- end }}
{{- if $on }}true{{- end }}
{{- end }}

{{- /* kruise.featureGates: the value for --feature-gates. */}}
{{- define "kruise.featureGates" -}}
{{- $gates := .Values.featureGates }}
{{- if and .Values.certManager.enabled (not (contains "EnableExternalCerts=" $gates)) }}
{{- $gates = trimPrefix "," (printf "%s,EnableExternalCerts=true" $gates) }}
{{- end }}
{{- if and (eq (include "kruise.nodeRestriction" .) "webhook") (not (contains "DaemonRestrictionWebhook=" $gates)) }}
{{- $gates = trimPrefix "," (printf "%s,DaemonRestrictionWebhook=true" $gates) }}
{{- end }}
{{- $gates }}
{{- end }}

{{- /* kruise.nodeRestriction: what keeps agents to their own nodes: policy, webhook or off. */}}
{{- define "kruise.nodeRestriction" -}}
{{- if ne .Values.daemon.nodeRestriction "auto" }}{{ .Values.daemon.nodeRestriction }}
{{- else if semverCompare "<1.30.0-0" .Capabilities.KubeVersion.Version }}webhook
{{- else }}policy
{{- end }}
{{- end }}

{{- /* kruise.by: a value that is null is what securityProfile says: (dict "root" . "value" V "profiles" (list …)). */}}
{{- define "kruise.by" -}}
{{- if kindIs "invalid" .value }}
{{- if has .root.Values.securityProfile .profiles }}true{{- end }}
{{- else if .value }}true{{- end }}
{{- end }}

{{- define "kruise.metricsSecure" -}}
{{- include "kruise.by" (dict "root" . "value" .Values.metrics.secure "profiles" (list "hardened")) }}
{{- end }}
{{- /* kruise.delegatedCheck: Off, Warn or Enforce. */}}
{{- define "kruise.delegatedCheck" -}}
{{- .Values.delegatedCapabilityCheck | default (eq .Values.securityProfile "hardened" | ternary "Enforce" "Warn") }}
{{- end }}
{{- /* kruise.secretDelivery: namespace or broker. */}}
{{- define "kruise.secretDelivery" -}}
{{- .Values.secretDelivery | default (eq .Values.securityProfile "hardened" | ternary "broker" "namespace") }}
{{- end }}
{{- /* kruise.watchPullSecrets: of no use without copies. */}}
{{- define "kruise.watchPullSecrets" -}}
{{- if and (include "kruise.gate" (dict "root" . "gate" "ImagePullJobGate")) (eq (include "kruise.secretDelivery" .) "namespace") }}
{{- include "kruise.by" (dict "root" . "value" .Values.manager.watchPullSecrets "profiles" (list "compat")) }}
{{- end }}
{{- end }}
{{- define "kruise.networkPolicy" -}}
{{- include "kruise.by" (dict "root" . "value" .Values.networkPolicy.enabled "profiles" (list "standard" "hardened")) }}
{{- end }}
{{- define "kruise.legacyAggregation" -}}
{{- include "kruise.by" (dict "root" . "value" .Values.rbac.legacyAggregation "profiles" (list "compat")) }}
{{- end }}
{{- define "kruise.aggregateExecKinds" -}}
{{- include "kruise.by" (dict "root" . "value" .Values.rbac.aggregateExecKinds "profiles" (list "compat" "standard")) }}
{{- end }}

{{- /* kruise.when: whether a document of config/rbac whose annotation rbac.kruise.io/rendered-when is .when is rendered. */}}
{{- define "kruise.when" -}}
{{- if not .when }}true
{{- else if eq .when "metrics.secure" }}{{- include "kruise.metricsSecure" .root }}
{{- else if eq .when "delegatedCapabilityCheck" }}{{- if ne (include "kruise.delegatedCheck" .root) "Off" }}true{{- end }}
{{- else if eq .when "secretDelivery.namespace" }}{{- if eq (include "kruise.secretDelivery" .root) "namespace" }}true{{- end }}
{{- else if eq .when "manager.watchPullSecrets" }}{{- include "kruise.watchPullSecrets" .root }}
{{- else if eq .when "secretDelivery.broker" }}{{- if eq (include "kruise.secretDelivery" .root) "broker" }}{{- include "kruise.gate" (dict "root" .root "gate" "ImagePullJobGate") }}{{- end }}
{{- else if eq .when "manager.separateControllers" }}{{- if .root.Values.manager.separateControllers.enabled }}true{{- end }}
{{- else if eq .when "rbac.legacyAggregation" }}{{- include "kruise.legacyAggregation" .root }}
{{- else if eq .when "rbac.aggregateExecKinds" }}{{- include "kruise.aggregateExecKinds" .root }}
{{- else if hasKey (.root.Files.Get "files/gates.yaml" | fromYaml) .when }}{{- include "kruise.gate" (dict "root" .root "gate" .when) }}
{{- else }}{{- fail (printf "config/rbac: unknown condition %q" .when) }}
{{- end }}
{{- end }}
