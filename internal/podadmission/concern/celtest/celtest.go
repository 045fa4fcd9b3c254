// SPDX-License-Identifier: Apache-2.0

// Package celtest evaluates match conditions for tests as the apiserver does, with its own library.
package celtest

import (
	"fmt"
	"sync"
	"testing"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/admission"
	celplugin "k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/cel/environment"
)

// Matcher is a compiled match condition.
type Matcher struct {
	evaluator celplugin.ConditionEvaluator
	old       cel.Program
}

// Request is an admission request about a pod.
type Request struct {
	Operation   admission.Operation
	Namespace   string
	SubResource string
	Object, Old *corev1.Pod
}

// oldest is the apiserver whose language is spoken.
func oldest() *environment.EnvSet { return environment.MustBaseEnvSet(version.MajorMinor(1, 30)) }

var compiler = sync.OnceValue(func() celplugin.ConditionCompiler { return celplugin.NewConditionCompiler(oldest()) })

var untypedEnv = sync.OnceValues(func() (*cel.Env, error) {
	env, err := oldest().Env(environment.NewExpressions)
	if err != nil {
		return nil, err
	}
	return env.Extend(cel.Variable("object", cel.DynType), cel.Variable("oldObject", cel.DynType), cel.Variable("request", cel.DynType))
})

// Compile compiles an expression as the apiserver of this version does, and as those before it did, which knew objects as
// untyped maps.
func Compile(t testing.TB, expression string) *Matcher {
	t.Helper()
	m := &Matcher{evaluator: compiler().CompileCondition(
		[]celplugin.ExpressionAccessor{&matchconditions.MatchCondition{Name: "it", Expression: expression}},
		celplugin.OptionalVariableDeclarations{}, environment.NewExpressions)}
	env, err := untypedEnv()
	if err != nil {
		t.Fatal(err)
	}
	ast, issues := env.Compile(expression)
	if issues.Err() != nil {
		t.Fatalf("%s: %v", expression, issues.Err())
	}
	if m.old, err = env.Program(ast); err != nil {
		t.Fatal(err)
	}
	return m
}

// Match evaluates the condition both ways. An evaluation error, or two ways that disagree, are errors. cost is what it
// took, in units of the apiserver's budget.
func (m *Matcher) Match(t testing.TB, r Request) (matches bool, cost int64, err error) {
	t.Helper()
	gvk := corev1.SchemeGroupVersion.WithKind("Pod")
	attr := admission.NewAttributesRecord(object(r.Object), object(r.Old), gvk, r.Namespace, "p",
		schema.GroupVersionResource{Version: "v1", Resource: "pods"}, r.SubResource, r.Operation, nil, false, &user.DefaultInfo{Name: "me"})
	versioned := &admission.VersionedAttributes{Attributes: attr, VersionedKind: gvk}
	if r.Object != nil {
		versioned.VersionedObject = admission.NewLazyObject(r.Object)
	}
	if r.Old != nil {
		versioned.VersionedOldObject = admission.NewLazyObject(r.Old)
	}
	request := celplugin.CreateAdmissionRequest(attr, metav1.GroupVersionResource(attr.GetResource()), metav1.GroupVersionKind(gvk))
	results, left, err := m.evaluator.ForInput(t.Context(), versioned, request, celplugin.OptionalVariableBindings{}, nil,
		celconfig.RuntimeCELCostBudgetMatchConditions)
	if err != nil {
		return false, 0, err
	}
	if results[0].Error != nil {
		return false, 0, results[0].Error
	}
	cost = celconfig.RuntimeCELCostBudgetMatchConditions - left
	matches = results[0].EvalResult == types.True

	before, err := m.untyped(r)
	if err == nil && before != matches {
		err = fmt.Errorf("typed objects: %t, untyped: %t", matches, before)
	}
	return matches, cost, err
}

func (m *Matcher) untyped(r Request) (bool, error) {
	vars := map[string]any{"request": map[string]any{"namespace": r.Namespace}, "object": nil, "oldObject": nil}
	for name, p := range map[string]*corev1.Pod{"object": r.Object, "oldObject": r.Old} {
		if p == nil {
			continue
		}
		u, err := runtime.DefaultUnstructuredConverter.ToUnstructured(p)
		if err != nil {
			return false, err
		}
		vars[name] = u
	}
	out, _, err := m.old.Eval(vars)
	if err != nil {
		return false, err
	}
	return out == types.True, nil
}

func object(p *corev1.Pod) runtime.Object {
	if p == nil {
		return nil
	}
	return p
}
