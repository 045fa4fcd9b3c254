// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// TrafficRoutingRef names what carries the traffic of a Service. At least one of ingress, gateway and customNetworkRefs
// must be given.
type TrafficRoutingRef struct {
	// service is the name of the Service.
	Service string `json:"service"`
	// gracePeriodSeconds is how long to wait between two changes of traffic, in seconds, at least 0. Defaults to 3.
	// +kubebuilder:default=3
	// +optional
	GracePeriodSeconds int32 `json:"gracePeriodSeconds,omitempty"`
	// ingress carries the traffic.
	// +optional
	Ingress *IngressTrafficRouting `json:"ingress,omitempty"`
	// gateway carries the traffic.
	// +optional
	Gateway *GatewayTrafficRouting `json:"gateway,omitempty"`
	// customNetworkRefs are other objects that carry the traffic, driven by scripts.
	// +optional
	CustomNetworkRefs []ObjectRef `json:"customNetworkRefs,omitempty"`
}

// IngressTrafficRouting names an Ingress.
type IngressTrafficRouting struct {
	// classType is the class of the Ingress, which selects the script: nginx, aliyun-alb, mse, higress or one of one's
	// own. Defaults to nginx.
	// +optional
	ClassType string `json:"classType,omitempty"`
	// name of the Ingress.
	Name string `json:"name"`
}

// GatewayTrafficRouting names a route of the Gateway API.
type GatewayTrafficRouting struct {
	// httpRouteName is the name of the HTTPRoute.
	// +optional
	HTTPRouteName *string `json:"httpRouteName,omitempty"`
}

// ObjectRef refers to an object in the same namespace.
type ObjectRef struct {
	// apiVersion of the object.
	APIVersion string `json:"apiVersion"`
	// kind of the object.
	Kind string `json:"kind"`
	// name of the object.
	Name string `json:"name"`
}

// HeaderMatchType says how the value of a header is compared.
// +kubebuilder:validation:Enum=Exact;RegularExpression
type HeaderMatchType string

const (
	// HeaderMatchExact compares for equality.
	HeaderMatchExact HeaderMatchType = "Exact"
	// HeaderMatchRegularExpression matches a regular expression.
	HeaderMatchRegularExpression HeaderMatchType = "RegularExpression"
)

// HTTPHeaderMatch is a condition on a header of a request.
type HTTPHeaderMatch struct {
	// type is Exact or RegularExpression. Defaults to Exact.
	// +kubebuilder:default=Exact
	// +optional
	Type *HeaderMatchType `json:"type,omitempty"`
	// name of the header, in any letter case.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$`
	Name string `json:"name"`
	// value to compare with.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Value string `json:"value"`
}

// HTTPHeader is a header with its value.
type HTTPHeader struct {
	// name of the header, in any letter case.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$`
	Name string `json:"name"`
	// value of the header.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Value string `json:"value"`
}

// HTTPHeaderFilter changes the headers of a request.
type HTTPHeaderFilter struct {
	// set replaces headers.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Set []HTTPHeader `json:"set,omitempty"`
	// add appends to headers.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Add []HTTPHeader `json:"add,omitempty"`
	// remove removes headers.
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Remove []string `json:"remove,omitempty"`
}

// HTTPRouteMatch is a condition on a request; all that is given must hold.
type HTTPRouteMatch struct {
	// headers are conditions on headers; all must hold.
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Headers []HTTPHeaderMatch `json:"headers,omitempty"`
}
