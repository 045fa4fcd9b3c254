// SPDX-License-Identifier: Apache-2.0

package images

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/klog/v2"
	kubeletv1 "k8s.io/kubelet/config/v1"
	pluginv1 "k8s.io/kubelet/pkg/apis/credentialprovider/v1"
	"k8s.io/kubernetes/pkg/credentialprovider"
	"sigs.k8s.io/yaml"
)

const (
	pluginTimeout = time.Minute
	pluginOutput  = 1 << 20 // bytes
	pluginGroup   = "credentialprovider.kubelet.k8s.io/"
	configGroup   = "kubelet.config.k8s.io/"
)

// passedOn are the variables of the agent that plugins get besides those of their configuration: what it takes to find
// helpers, files of the user and a proxy, and nothing else (security 5.3.3).
var passedOn = []string{"PATH", "HOME", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"}

// Plugins are credential providers of the kubelet's kind: programs that are asked for the login to a registry. The
// kubelet's own room for them would bring the whole apiserver library along, runs plugins with all of its environment and
// reads any amount of output.
type Plugins struct{ providers []*provider }

type provider struct {
	kubeletv1.CredentialProvider
	path string

	mu    sync.Mutex // held while the plugin runs: it runs once at a time
	cache map[string]cachedLogin
}

type cachedLogin struct {
	config credentialprovider.DockerConfig
	until  time.Time
}

// LoadPlugins reads a CredentialProviderConfig and looks for the plugins in a directory. Providers that can't be used are
// left out and named by the error.
func LoadPlugins(configFile, binDir string) (*Plugins, error) {
	data, err := os.ReadFile(configFile)
	if err != nil {
		return nil, fmt.Errorf("credential provider plugins: %w", err)
	}
	var config kubeletv1.CredentialProviderConfig
	if err := yaml.Unmarshal(data, &config); err != nil {
		return nil, fmt.Errorf("credential provider plugins of %s: %w", configFile, err)
	}
	if config.Kind != "CredentialProviderConfig" || !strings.HasPrefix(config.APIVersion, configGroup) || len(config.Providers) == 0 {
		return nil, fmt.Errorf("credential provider plugins: %s is no CredentialProviderConfig with providers", configFile)
	}
	if info, err := os.Stat(binDir); err != nil {
		return nil, fmt.Errorf("credential provider plugins: %w", err)
	} else if runtime.GOOS != "windows" && info.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("credential provider plugins: directory %s may be written by others than its owner", binDir)
	}
	p := &Plugins{}
	var errs []error
	for i := range config.Providers {
		one := &provider{CredentialProvider: config.Providers[i], path: filepath.Join(binDir, config.Providers[i].Name), cache: map[string]cachedLogin{}}
		if err := one.check(); err != nil {
			errs = append(errs, fmt.Errorf("credential provider plugin %q: %w", one.Name, err))
			continue
		}
		p.providers = append(p.providers, one)
	}
	return p, errors.Join(errs...)
}

func (p *provider) check() error {
	switch {
	case p.Name == "" || p.Name != filepath.Base(p.Name):
		return errors.New("the name must be that of a file")
	case len(p.MatchImages) == 0:
		return errors.New("matchImages is empty")
	case p.DefaultCacheDuration == nil || p.DefaultCacheDuration.Duration < 0:
		return errors.New("defaultCacheDuration is missing or negative")
	case !strings.HasPrefix(p.APIVersion, pluginGroup):
		return fmt.Errorf("apiVersion %q is not known", p.APIVersion)
	case p.TokenAttributes != nil:
		return errors.New("tokenAttributes are not supported: the agent has no tokens of pods")
	}
	for _, pattern := range p.MatchImages {
		if _, err := credentialprovider.ParseSchemelessURL(pattern); err != nil {
			return fmt.Errorf("matchImages %q: %w", pattern, err)
		}
	}
	info, err := os.Stat(p.path)
	if err == nil && info.IsDir() {
		err = errors.New("a directory")
	}
	return err
}

// lookup returns what plugins say of an image, given by its full name. None runs for longer than ctx.
func (p *Plugins) lookup(ctx context.Context, image string) []credentialprovider.TrackedAuthConfig {
	if p == nil {
		return nil
	}
	ring := &credentialprovider.BasicDockerKeyring{}
	for _, one := range p.providers {
		if !one.matches(image) {
			continue
		}
		config, err := one.login(ctx, image)
		if err != nil {
			klog.Background().Error(err, "No credentials from a plugin", "plugin", one.Name, "image", image)
			continue
		}
		ring.Add(nil, config)
	}
	logins, _ := ring.Lookup(image)
	return logins
}

// forget drops what plugins answered.
func (p *Plugins) forget() {
	if p == nil {
		return
	}
	for _, one := range p.providers {
		one.mu.Lock()
		clear(one.cache)
		one.mu.Unlock()
	}
}

func (p *provider) matches(image string) bool {
	return slices.ContainsFunc(p.MatchImages, func(pattern string) bool {
		ok, err := credentialprovider.URLsMatchStr(pattern, image)
		return err == nil && ok
	})
}

// login returns what the plugin says, now or not long ago.
func (p *provider) login(ctx context.Context, image string) (credentialprovider.DockerConfig, error) {
	registry, _, _ := strings.Cut(image, "/")
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for _, key := range []string{"image " + image, "registry " + registry, "global"} {
		if c, ok := p.cache[key]; ok && now.Before(c.until) {
			return c.config, nil
		}
	}
	answer, err := p.ask(ctx, image)
	if err != nil {
		return nil, err
	}
	config := credentialprovider.DockerConfig{}
	for pattern, auth := range answer.Auth {
		config[pattern] = credentialprovider.DockerConfigEntry{Username: auth.Username, Password: auth.Password}
	}
	lasts := p.DefaultCacheDuration.Duration
	if answer.CacheDuration != nil {
		lasts = answer.CacheDuration.Duration
	}
	key := ""
	switch answer.CacheKeyType {
	case pluginv1.ImagePluginCacheKeyType:
		key = "image " + image
	case pluginv1.RegistryPluginCacheKeyType:
		key = "registry " + registry
	case pluginv1.GlobalPluginCacheKeyType:
		key = "global"
	default:
		return nil, fmt.Errorf("cacheKeyType %q is not known", answer.CacheKeyType)
	}
	if lasts > 0 {
		for k, c := range p.cache {
			if !now.Before(c.until) {
				delete(p.cache, k)
			}
		}
		p.cache[key] = cachedLogin{config, now.Add(lasts)}
	}
	return config, nil
}

// ask runs the plugin. What it prints goes into no error: it may be a credential.
func (p *provider) ask(ctx context.Context, image string) (*pluginv1.CredentialProviderResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, pluginTimeout)
	defer cancel()
	question := pluginv1.CredentialProviderRequest{Image: image}
	question.Kind, question.APIVersion = "CredentialProviderRequest", p.APIVersion
	in, err := json.Marshal(question)
	if err != nil {
		return nil, err
	}
	out := &limited{}
	cmd := exec.CommandContext(ctx, p.path, p.Args...) // the operator's configuration names it
	cmd.Stdin, cmd.Stdout, cmd.WaitDelay = bytes.NewReader(in), out, time.Second
	cmd.Env = []string{}
	for _, name := range passedOn {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	for _, e := range p.Env {
		cmd.Env = append(cmd.Env, e.Name+"="+e.Value)
	}
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("running the plugin: %w", err)
	}
	answer := &pluginv1.CredentialProviderResponse{}
	if err := json.Unmarshal(out.Bytes(), answer); err != nil {
		return nil, errors.New("the answer is no JSON")
	}
	if answer.Kind != "CredentialProviderResponse" || answer.APIVersion != p.APIVersion {
		return nil, fmt.Errorf("the answer is a %.64q of %.64q", answer.Kind, answer.APIVersion)
	}
	return answer, nil
}

// limited refuses more output than a plugin may have.
type limited struct{ bytes.Buffer }

// Write implements io.Writer.
func (l *limited) Write(b []byte) (int, error) {
	if l.Len()+len(b) > pluginOutput {
		return 0, errors.New("the output is too long")
	}
	return l.Buffer.Write(b)
}
