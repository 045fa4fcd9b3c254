// SPDX-License-Identifier: Apache-2.0

package v1beta1

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

// PathMatchType says how the path of a request is compared.
// +kubebuilder:validation:Enum=Exact;PathPrefix;RegularExpression
type PathMatchType string

const (
	// PathMatchExact compares for equality.
	PathMatchExact PathMatchType = "Exact"
	// PathMatchPathPrefix compares the beginning, element by element.
	PathMatchPathPrefix PathMatchType = "PathPrefix"
	// PathMatchRegularExpression matches a regular expression.
	PathMatchRegularExpression PathMatchType = "RegularExpression"
)

// HTTPPathMatch is a condition on the path of a request.
// +kubebuilder:validation:XValidation:message=`value must be an absolute path and start with '/' when type one of ['Exact', 'PathPrefix']`,rule=`(self.type in ['Exact','PathPrefix']) ? self.value.startsWith('/') : true`
// +kubebuilder:validation:XValidation:message=`must not contain '//' when type one of ['Exact', 'PathPrefix']`,rule=`(self.type in ['Exact','PathPrefix']) ? !self.value.contains('//') : true`
// +kubebuilder:validation:XValidation:message=`must not contain '/./' when type one of ['Exact', 'PathPrefix']`,rule=`(self.type in ['Exact','PathPrefix']) ? !self.value.contains('/./') : true`
// +kubebuilder:validation:XValidation:message=`must not contain '/../' when type one of ['Exact', 'PathPrefix']`,rule=`(self.type in ['Exact','PathPrefix']) ? !self.value.contains('/../') : true`
// +kubebuilder:validation:XValidation:message=`must not contain '%2f' when type one of ['Exact', 'PathPrefix']`,rule=`(self.type in ['Exact','PathPrefix']) ? !self.value.contains('%2f') : true`
// +kubebuilder:validation:XValidation:message=`must not contain '%2F' when type one of ['Exact', 'PathPrefix']`,rule=`(self.type in ['Exact','PathPrefix']) ? !self.value.contains('%2F') : true`
// +kubebuilder:validation:XValidation:message=`must not contain '#' when type one of ['Exact', 'PathPrefix']`,rule=`(self.type in ['Exact','PathPrefix']) ? !self.value.contains('#') : true`
// +kubebuilder:validation:XValidation:message=`must not end with '/..' when type one of ['Exact', 'PathPrefix']`,rule=`(self.type in ['Exact','PathPrefix']) ? !self.value.endsWith('/..') : true`
// +kubebuilder:validation:XValidation:message=`must not end with '/.' when type one of ['Exact', 'PathPrefix']`,rule=`(self.type in ['Exact','PathPrefix']) ? !self.value.endsWith('/.') : true`
// +kubebuilder:validation:XValidation:message=`type must be one of ['Exact', 'PathPrefix', 'RegularExpression']`,rule=`self.type in ['Exact','PathPrefix'] || self.type == 'RegularExpression'`
// +kubebuilder:validation:XValidation:message=`must only contain valid characters (matching ^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$) for types ['Exact', 'PathPrefix']`,rule=`(self.type in ['Exact','PathPrefix']) ? self.value.matches(r"""^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$""") : true`
type HTTPPathMatch struct {
	// type is Exact, PathPrefix or RegularExpression. Defaults to PathPrefix.
	// +kubebuilder:default=PathPrefix
	// +optional
	Type *PathMatchType `json:"type,omitempty"`
	// value to compare with. Defaults to /.
	// +kubebuilder:default="/"
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Value *string `json:"value,omitempty"`
}

// QueryParamMatchType says how the value of a query parameter is compared.
// +kubebuilder:validation:Enum=Exact;RegularExpression
type QueryParamMatchType string

const (
	// QueryParamMatchExact compares for equality.
	QueryParamMatchExact QueryParamMatchType = "Exact"
	// QueryParamMatchRegularExpression matches a regular expression.
	QueryParamMatchRegularExpression QueryParamMatchType = "RegularExpression"
)

// HTTPQueryParamMatch is a condition on a query parameter of a request.
type HTTPQueryParamMatch struct {
	// type is Exact or RegularExpression. Defaults to Exact.
	// +kubebuilder:default=Exact
	// +optional
	Type *QueryParamMatchType `json:"type,omitempty"`
	// name of the query parameter.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$`
	Name string `json:"name"`
	// value to compare with.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Value string `json:"value"`
}

// HTTPRouteMatch is a condition on a request; all that is given must hold.
type HTTPRouteMatch struct {
	// path is a condition on the path.
	// +optional
	Path *HTTPPathMatch `json:"path,omitempty"`
	// headers are conditions on headers; all must hold.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Headers []HTTPHeaderMatch `json:"headers,omitempty"`
	// queryParams are conditions on query parameters; all must hold.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	// +optional
	QueryParams []HTTPQueryParamMatch `json:"queryParams,omitempty"`
}
