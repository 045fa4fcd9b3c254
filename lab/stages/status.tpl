{{- /* The status a kubelet would report for this pod now, as a patch that only applies to the version it was computed
from: whoever is overtaken computes again. Containers that start carry the time for it in their waiting message. */ -}}
{{- $now := now -}}
{{- $layout := "2006-01-02T15:04:05.000Z07:00" -}}
{{- $stamp := dateInZone $layout $now "UTC" -}}
{{- $time := dateInZone "2006-01-02T15:04:05Z07:00" $now "UTC" -}}
{{- $startsAt := printf "starts at %s" (dateInZone $layout (dateModify "START_DELAY" $now) "UTC") -}}
{{- $restartsAt := printf "starts at %s" (dateInZone $layout (dateModify "RESTART_DELAY" $now) "UTC") -}}
{{- $uid := .metadata.uid -}}
{{- $status := default dict .status -}}
{{- $notes := default dict .metadata.annotations -}}
{{- $unready := eq (get $notes "lab.kruise.io/ready") "false" -}}
{{- $pullFails := eq (get $notes "lab.kruise.io/pull") "fail" -}}
{{- $was := dict -}}
{{- range concat (default list $status.initContainerStatuses) (default list $status.containerStatuses) -}}
  {{- $_ := set $was .name . -}}
{{- end -}}
{{- $conditions := dict -}}
{{- range default list $status.conditions -}}{{- $_ := set $conditions .type . -}}{{- end -}}
{{- $hasInit := not (empty .spec.initContainers) -}}
{{- $initialized := eq (toString (get (default dict (get $conditions "Initialized")) "status")) "True" -}}
{{- $initBroken := false -}}
{{- range default list .spec.initContainers -}}
  {{- if or $pullFails (contains "/broken" .image) -}}{{- $initBroken = true -}}{{- end -}}
{{- end -}}
{{- $containers := list -}}
{{- range default list .spec.initContainers -}}{{- $containers = append $containers (dict "spec" . "init" true) -}}{{- end -}}
{{- range .spec.containers -}}{{- $containers = append $containers (dict "spec" . "init" false) -}}{{- end -}}

{{- $initStatuses := list -}}
{{- $mainStatuses := list -}}
{{- $notReady := list -}}
{{- $notInitialized := list -}}
{{- $fresh := false -}}
{{- $anyStarted := false -}}
{{- range $containers -}}
  {{- $c := .spec -}}
  {{- $sidecar := and .init (eq (toString (get $c "restartPolicy")) "Always") -}}
  {{- $once := and .init (not $sidecar) -}}
  {{- $broken := or $pullFails (contains "/broken" $c.image) -}}
  {{- $blocked := and (not .init) (not $initialized) $initBroken -}}
  {{- $resources := pick (default dict $c.resources) "limits" "requests" -}}
  {{- $new := dict -}}
  {{- if not (hasKey $was $c.name) -}}
    {{- $reason := ternary "PodInitializing" "ContainerCreating" (and $hasInit (not .init)) -}}
    {{- $new = dict "name" $c.name "image" $c.image "imageID" "" "ready" false "started" false "restartCount" 0
        "state" (dict "waiting" (dict "reason" $reason "message" $startsAt)) -}}
  {{- else -}}
    {{- $new = deepCopy (get $was $c.name) -}}
    {{- $state := default dict $new.state -}}
    {{- $next := "" -}}
    {{- if hasKey $state "waiting" -}}
      {{- $message := toString (get $state.waiting "message") -}}
      {{- if hasPrefix "starts at " $message -}}
        {{- if le (trimPrefix "starts at " $message) $stamp -}}
          {{- $next = ternary "blocked" (ternary "broken" "start" $broken) $blocked -}}
        {{- end -}}
      {{- else if not (or $broken $blocked) -}}
        {{- $next = "announce" -}}
      {{- end -}}
    {{- else if hasKey $state "running" -}}
      {{- $next = ternary "keep" "stop" (eq $new.image $c.image) -}}
      {{- $before := default dict (get $new "resources") -}}
      {{- range default list $c.resizePolicy -}}
        {{- $policy := . -}}
        {{- if eq .restartPolicy "RestartContainer" -}}
          {{- range list "requests" "limits" -}}
            {{- $a := get (default dict (get $before .)) $policy.resourceName -}}
            {{- $b := get (default dict (get $resources .)) $policy.resourceName -}}
            {{- if ne (toString $a) (toString $b) -}}{{- $next = "stop" -}}{{- end -}}
          {{- end -}}
        {{- end -}}
      {{- end -}}
    {{- end -}}

    {{- if eq $next "blocked" -}}
      {{- $_ := set $new "state" (dict "waiting" (dict "reason" "PodInitializing")) -}}
    {{- else if eq $next "broken" -}}
      {{- $_ := set $new "state" (dict "waiting" (dict "reason" "ImagePullBackOff" "message" (printf "Back-off pulling image %q" $c.image))) -}}
    {{- else if eq $next "announce" -}}
      {{- $_ := set $new "state" (dict "waiting" (dict "reason" "ContainerCreating" "message" $startsAt)) -}}
    {{- else if eq $next "stop" -}}
      {{- $_ := set $new "lastState" (dict "terminated" (dict "exitCode" 0 "reason" "Completed" "containerID" $new.containerID
          "startedAt" $state.running.startedAt "finishedAt" $time)) -}}
      {{- $_ := set $new "state" (dict "waiting" (dict "reason" "ContainerCreating" "message" $restartsAt)) -}}
      {{- $_ := set $new "ready" false -}}
      {{- $_ := set $new "started" false -}}
    {{- else if eq $next "start" -}}
      {{- $count := int64 $new.restartCount -}}
      {{- if get $new "containerID" -}}{{- $count = add1 $count -}}{{- end -}}
      {{- $id := printf "containerd://%s" (sha256sum (printf "%s/%s/%d" $uid $c.name $count)) -}}
      {{- $_ := set $new "restartCount" $count -}}
      {{- $_ := set $new "containerID" $id -}}
      {{- $_ := set $new "image" $c.image -}}
      {{- if contains "@" $c.image -}}
        {{- $_ := set $new "imageID" $c.image -}}
      {{- else -}}
        {{- $_ := set $new "imageID" (printf "%s@sha256:%s" (regexReplaceAll ":[^/:]*$" $c.image "") (sha256sum $c.image)) -}}
      {{- end -}}
      {{- if $once -}}
        {{- $_ := set $new "state" (dict "terminated" (dict "exitCode" 0 "reason" "Completed" "containerID" $id "startedAt" $time "finishedAt" $time)) -}}
        {{- $_ := set $new "ready" true -}}
        {{- $_ := set $new "started" false -}}
      {{- else -}}
        {{- $_ := set $new "state" (dict "running" (dict "startedAt" $time)) -}}
        {{- $next = "keep" -}}
      {{- end -}}
    {{- end -}}
    {{- if eq $next "keep" -}}
      {{- $_ := set $new "ready" (not $unready) -}}
      {{- $_ := set $new "started" true -}}
      {{- $_ := set $new "resources" $resources -}}
      {{- $_ := set $new "allocatedResources" (default dict $resources.requests) -}}
    {{- end -}}
  {{- end -}}
  {{- $started := not (empty (get $new "containerID")) -}}
  {{- if $started -}}{{- $anyStarted = true -}}{{- else -}}{{- $fresh = true -}}{{- end -}}
  {{- if and (not $new.ready) (not $once) -}}{{- $notReady = append $notReady $c.name -}}{{- end -}}
  {{- if .init -}}
    {{- if not $started -}}{{- $notInitialized = append $notInitialized $c.name -}}{{- end -}}
    {{- $initStatuses = append $initStatuses $new -}}
  {{- else -}}
    {{- $mainStatuses = append $mainStatuses $new -}}
  {{- end -}}
{{- end -}}

{{- $ephemeralStatuses := list -}}
{{- $wasEphemeral := dict -}}
{{- range default list $status.ephemeralContainerStatuses -}}{{- $_ := set $wasEphemeral .name . -}}{{- end -}}
{{- range default list .spec.ephemeralContainers -}}
  {{- if hasKey $wasEphemeral .name -}}
    {{- $ephemeralStatuses = append $ephemeralStatuses (get $wasEphemeral .name) -}}
  {{- else -}}
    {{- $ephemeralStatuses = append $ephemeralStatuses (dict "name" .name "image" .image "ready" false "restartCount" 0
        "imageID" (printf "%s@sha256:%s" (regexReplaceAll ":[^/:]*$" .image "") (sha256sum .image))
        "containerID" (printf "containerd://%s" (sha256sum (printf "%s/%s/0" $uid .name))) "state" (dict "running" (dict "startedAt" $time))) -}}
  {{- end -}}
{{- end -}}

{{- $gates := list -}}
{{- range default list .spec.readinessGates -}}
  {{- if not (hasKey $conditions .conditionType) -}}
    {{- $gates = append $gates (printf "corresponding condition of pod readiness gate %q does not exist." .conditionType) -}}
  {{- else -}}
    {{- $value := get (get $conditions .conditionType) "status" -}}
    {{- if ne $value "True" -}}
      {{- $gates = append $gates (printf "the status of pod readiness gate %q is not \"True\", but %s" .conditionType $value) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $unreadyMessage := printf "containers with unready status: [%s]" (join " " $notReady) -}}
{{- $wanted := list -}}
{{- $wanted = append $wanted (list "PodReadyToStartContainers" (ternary "True" "False" $anyStarted) "" "") -}}
{{- if and $notInitialized (not $initialized) -}}
  {{- $wanted = append $wanted (list "Initialized" "False" "ContainersNotInitialized" (printf "containers with incomplete status: [%s]" (join " " $notInitialized))) -}}
{{- else -}}
  {{- $wanted = append $wanted (list "Initialized" "True" "" "") -}}
{{- end -}}
{{- if $notReady -}}
  {{- $wanted = append $wanted (list "ContainersReady" "False" "ContainersNotReady" $unreadyMessage) -}}
  {{- $wanted = append $wanted (list "Ready" "False" "ContainersNotReady" $unreadyMessage) -}}
{{- else -}}
  {{- $wanted = append $wanted (list "ContainersReady" "True" "" "") -}}
  {{- if $gates -}}
    {{- $wanted = append $wanted (list "Ready" "False" "ReadinessGatesNotReady" (join ", " $gates)) -}}
  {{- else -}}
    {{- $wanted = append $wanted (list "Ready" "True" "" "") -}}
  {{- end -}}
{{- end -}}
{{- $reported := list -}}
{{- range $wanted -}}
  {{- $since := $time -}}
  {{- $old := default dict (get $conditions (index . 0)) -}}
  {{- if eq (toString (get $old "status")) (index . 1) -}}{{- $since = $old.lastTransitionTime -}}{{- end -}}
  {{- $reported = append $reported (dict "type" (index . 0) "status" (index . 1) "reason" (index . 2) "message" (index . 3) "lastTransitionTime" $since) -}}
{{- end -}}

{{- $phase := "Running" -}}
{{- if and $fresh (ne (toString (get $status "phase")) "Running") -}}{{- $phase = "Pending" -}}{{- end -}}
{{- $out := dict "observedGeneration" (default 0 .metadata.generation) "phase" $phase "conditions" $reported "containerStatuses" $mainStatuses -}}
{{- if $initStatuses -}}{{- $_ := set $out "initContainerStatuses" $initStatuses -}}{{- end -}}
{{- if $ephemeralStatuses -}}{{- $_ := set $out "ephemeralContainerStatuses" $ephemeralStatuses -}}{{- end -}}
{{- if not (get $status "startTime") -}}{{- $_ := set $out "startTime" $time -}}{{- end -}}
{{- if not (get $status "hostIP") -}}
  {{- $ips := list -}}
  {{- range NodeIPsWith .spec.nodeName -}}{{- $ips = append $ips (dict "ip" .) -}}{{- end -}}
  {{- if $ips -}}{{- $_ := set $out "hostIP" (first $ips).ip -}}{{- $_ := set $out "hostIPs" $ips -}}{{- end -}}
{{- end -}}
{{- if and $anyStarted (not (get $status "podIP")) -}}
  {{- $ips := list -}}
  {{- range PodIPsWith .spec.nodeName (default false .spec.hostNetwork) $uid .metadata.name .metadata.namespace -}}{{- $ips = append $ips (dict "ip" .) -}}{{- end -}}
  {{- if $ips -}}{{- $_ := set $out "podIP" (first $ips).ip -}}{{- $_ := set $out "podIPs" $ips -}}{{- end -}}
{{- end -}}
{{ dict "metadata" (dict "uid" $uid "resourceVersion" .metadata.resourceVersion) "status" $out | toJson }}
