{{- /* The status a kubelet reports when all containers of a pod have ended: by themselves with the exit code that
lab.kruise.io/exit-code says (default 0), or because the pod is being deleted. */ -}}
{{- $time := dateInZone "2006-01-02T15:04:05Z07:00" now "UTC" -}}
{{- $status := default dict .status -}}
{{- $code := int64 (default "0" (get (default dict .metadata.annotations) "lab.kruise.io/exit-code")) -}}
{{- if .metadata.deletionTimestamp -}}{{- $code = 137 -}}{{- end -}}
{{- $reason := ternary "Completed" "Error" (eq $code 0) -}}
{{- $lists := dict -}}
{{- range list "initContainerStatuses" "containerStatuses" -}}
  {{- $ended := list -}}
  {{- range default list (get $status .) -}}
    {{- $new := deepCopy . -}}
    {{- if not (hasKey (default dict $new.state) "terminated") -}}
      {{- $end := dict "exitCode" $code "reason" $reason "finishedAt" $time "startedAt" $time -}}
      {{- if hasKey (default dict $new.state) "running" -}}{{- $_ := set $end "startedAt" $new.state.running.startedAt -}}{{- end -}}
      {{- if get $new "containerID" -}}{{- $_ := set $end "containerID" $new.containerID -}}{{- end -}}
      {{- $_ := set $new "state" (dict "terminated" $end) -}}
      {{- $_ := set $new "ready" false -}}
      {{- $_ := set $new "started" false -}}
    {{- end -}}
    {{- $ended = append $ended $new -}}
  {{- end -}}
  {{- if $ended -}}{{- $_ := set $lists . $ended -}}{{- end -}}
{{- end -}}
{{- $phase := ternary "Succeeded" "Failed" (eq $code 0) -}}
{{- $why := ternary "PodCompleted" "PodFailed" (eq $code 0) -}}
{{- $reported := list -}}
{{- range list "ContainersReady" "Ready" -}}
  {{- $type := . -}}
  {{- $since := $time -}}
  {{- range default list $status.conditions -}}
    {{- if and (eq .type $type) (eq .status "False") -}}{{- $since = .lastTransitionTime -}}{{- end -}}
  {{- end -}}
  {{- $reported = append $reported (dict "type" $type "status" "False" "reason" $why "message" "" "lastTransitionTime" $since) -}}
{{- end -}}
{{- $out := merge (dict "observedGeneration" (default 0 .metadata.generation) "phase" $phase "conditions" $reported) $lists -}}
{{ dict "metadata" (dict "uid" .metadata.uid "resourceVersion" .metadata.resourceVersion) "status" $out | toJson }}
