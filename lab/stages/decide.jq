# What a kubelet would do with this pod now. Exactly one word, so that exactly one Stage matches:
#   delete    it is being deleted and nothing but the kubelet holds it back
#   stop      it is being deleted and somebody's finalizer keeps the object
#   create    it is new on this node
#   sync      its spec, a readiness gate or a knob says something else than its status
#   run       a container waits for its time to start
#   complete  its work ends by itself
#   none      nothing
# Programs are level triggered: they look at what is, never at what happened.

def note($name): .metadata.annotations[$name] // "";
def init_statuses: .status.initContainerStatuses // [];
def main_statuses: .status.containerStatuses // [];

# Restartable init containers live as long as the pod, so they count for its readiness.
def sidecars: [(.spec.initContainers // [])[] | select(.restartPolicy == "Always") | .name];
def long_running: sidecars as $names | main_statuses + [init_statuses[] | select(.name | IN($names[]))];

# When the first waiting container starts; null when none does.
def due:
  [(init_statuses + main_statuses)[].state.waiting.message // empty
    | select(startswith("starts at ")) | ltrimstr("starts at ")] | min;

def condition($type): first((.status.conditions // [])[] | select(.type == $type)) // {};

def containers_ready: long_running | length > 0 and all(.ready == true);

# The reasons of readiness gates against the pod being ready, in the kubelet's words; empty when there are none.
def gates:
  . as $pod
  | [(.spec.readinessGates // [])[].conditionType as $type
      | ($pod | condition($type)) as $c
      | if $c == {} then "corresponding condition of pod readiness gate \"\($type)\" does not exist."
        elif $c.status != "True" then "the status of pod readiness gate \"\($type)\" is not \"True\", but \($c.status)"
        else empty end]
  | join(", ");

def readiness_differs:
  containers_ready
  and (gates as $message | condition("Ready")
    | .status != (if $message == "" then "True" else "False" end) or (.message // "") != $message);

def knob_differs: (note("lab.kruise.io/ready") != "false") as $ready | any(long_running[]; .state.running != null and .ready != $ready);

# Containers whose image could not be pulled and can be now.
def pullable:
  note("lab.kruise.io/pull") != "fail"
  and ([((.spec.initContainers // []) + .spec.containers)[] | select(.image | contains("/broken") | not) | .name] as $good
    | any((init_statuses + main_statuses)[]; .state.waiting.reason == "ImagePullBackOff" and (.name | IN($good[]))));

def finite:
  .spec.restartPolicy != "Always"
  and (note("lab.kruise.io/exit-code") != "" or any((.metadata.ownerReferences // [])[]; .kind == "Job" or .kind == "BroadcastJob"));

def decide:
  if .metadata.deletionTimestamp != null then
    if (.metadata.deletionGracePeriodSeconds // 0) == 0 then "none"
    elif (.metadata.finalizers // []) == [] then "delete"
    else "stop" end
  elif note("lab.kruise.io/kubelet") == "manual" then "none"
  elif .status.phase == "Succeeded" or .status.phase == "Failed" then "none"
  elif main_statuses == [] then "create"
  elif (.metadata.generation // 0) != (.status.observedGeneration // 0) or readiness_differs or knob_differs or pullable then "sync"
  elif due != null then "run"
  elif finite and .status.phase == "Running" and all(main_statuses[]; .state.running != null) then "complete"
  else "none" end;

# When the containers of a pod being deleted have ended: the stop delay after the request, at most its grace period.
# The API's times are whole seconds cut off, so a delay that is not zero gets one more.
def stopped_at:
  (.metadata.deletionGracePeriodSeconds // 0) as $grace
  | (note("lab.kruise.io/stop-after") | if . == "" then STOP_SECONDS else rtrimstr("s") | tonumber end) as $stop
  | (.metadata.deletionTimestamp | fromdateiso8601)
  | [., . - $grace + (if $stop > 0 then ($stop | ceil) + 1 else 0 end)] | min | todateiso8601;

