// SPDX-License-Identifier: Apache-2.0

package realnode

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// makeRoot builds the node's root file system in memory and moves into it. Programs and libraries are the machine's,
// read-only; /var is the node's directory, so that images and pods survive a crash of the node as they would on a disk;
// /run, /tmp and /dev are new at every start. The machine's other files are out of reach, for pods with hostPath
// volumes too.
func (c *NodeConfig) makeRoot() error {
	// Nothing mounted from here on may reach the machine.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	root := filepath.Join(c.Dir, "root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("node", root, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	steps := []func(string) error{c.mountPrograms, c.mountDisk, c.mountKernel, makeDevices, c.writeEtc, c.copyFiles}
	for _, step := range steps {
		if err := step(root); err != nil {
			return err
		}
	}
	old := filepath.Join(root, ".old")
	if err := os.Mkdir(old, 0o700); err != nil {
		return err
	}
	if err := unix.PivotRoot(root, old); err != nil {
		return fmt.Errorf("pivot: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	// The old root's own mounts keep /proc in sight, which the kernel wants before it mounts a new one.
	if err := mountProc(); err != nil {
		return fmt.Errorf("/proc: %w", err)
	}
	if err := unix.Unmount("/.old", unix.MNT_DETACH); err != nil {
		return err
	}
	if err := os.Remove("/.old"); err != nil {
		return err
	}
	// Volumes with mount propagation need it.
	return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")
}

func bind(from, to string, flags uintptr) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = os.MkdirAll(to, 0o755)
	} else if err = os.MkdirAll(filepath.Dir(to), 0o755); err == nil {
		err = os.WriteFile(to, nil, 0o600)
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND|flags&unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s: %w", from, err)
	}
	if flags&unix.MS_RDONLY == 0 {
		return nil
	}
	return unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
}

func (c *NodeConfig) mountPrograms(root string) error {
	for _, name := range []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr"} {
		from := "/" + name
		info, err := os.Lstat(from)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(from)
			if err != nil {
				return err
			}
			if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
				return err
			}
			continue
		}
		if err := bind(from, filepath.Join(root, name), unix.MS_RDONLY); err != nil {
			return err
		}
	}
	if err := bind(c.Binary, filepath.Join(root, labBinary), unix.MS_RDONLY); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(root, "opt/cni"), 0o755); err != nil {
		return err
	}
	return os.Symlink("/usr/lib/cni", filepath.Join(root, "opt/cni/bin"))
}

func (c *NodeConfig) mountDisk(root string) error {
	disk := filepath.Join(c.Dir, "var")
	for _, d := range []string{"lib/kubelet", "lib/containerd", "lib/cni", "log/pods", "log/containers", "tmp"} {
		if err := os.MkdirAll(filepath.Join(disk, d), 0o755); err != nil {
			return err
		}
	}
	if err := bind(disk, filepath.Join(root, "var"), 0); err != nil {
		return err
	}
	for _, name := range []string{"run", "tmp"} {
		dir := filepath.Join(root, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(name, dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"); err != nil {
			return err
		}
	}
	if err := os.Remove(filepath.Join(disk, "run")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink("/run", filepath.Join(disk, "run"))
}

// mountKernel mounts /sys of the node's network, with the machine's cgroups.
func (c *NodeConfig) mountKernel(root string) error {
	sys := filepath.Join(root, "sys")
	if err := os.Mkdir(sys, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("sysfs", sys, "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	if err := unix.Mount(cgroupRoot, filepath.Join(root, cgroupRoot), "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("cgroups: %w", err)
	}
	return nil
}

// kernelSettings are the machine-wide settings that a kubelet insists on. The node sees them as it wants them; the
// machine keeps its own.
var kernelSettings = map[string]int{
	"vm/overcommit_memory":      1,
	"vm/panic_on_oom":           0,
	"kernel/panic":              10,
	"kernel/panic_on_oops":      1,
	"kernel/keys/root_maxkeys":  1000000,
	"kernel/keys/root_maxbytes": 25000000,
}

func mountProc() error {
	if err := os.Mkdir("/proc", 0o755); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	for name, value := range kernelSettings {
		shown := filepath.Join("/run/kernel", name)
		if err := os.MkdirAll(filepath.Dir(shown), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(shown, []byte(strconv.Itoa(value)+"\n"), 0o600); err != nil {
			return err
		}
		if err := unix.Mount(shown, filepath.Join("/proc/sys", name), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// makeDevices makes a /dev with the devices that no program does without, and none of the machine's hardware.
func makeDevices(root string) error {
	dev := filepath.Join(root, "dev")
	if err := os.Mkdir(dev, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("dev", dev, "tmpfs", unix.MS_NOSUID, "mode=755"); err != nil {
		return err
	}
	old := unix.Umask(0)
	defer unix.Umask(old)
	devices := []struct {
		name         string
		major, minor uint32
	}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"kmsg", 1, 11}, {"tty", 5, 0}}
	for _, d := range devices {
		if err := unix.Mknod(filepath.Join(dev, d.name), unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return fmt.Errorf("/dev/%s: %w", d.name, err)
		}
	}
	mounts := []struct{ name, kind, options string }{
		{"pts", "devpts", "newinstance,ptmxmode=0666,mode=0620"}, {"shm", "tmpfs", "mode=1777"}, {"mqueue", "mqueue", ""},
	}
	for _, m := range mounts {
		dir := filepath.Join(dev, m.name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, dir, m.kind, unix.MS_NOSUID|unix.MS_NOEXEC, m.options); err != nil {
			return fmt.Errorf("/dev/%s: %w", m.name, err)
		}
	}
	for name, target := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	return nil
}

// copyFiles puts the node's certificates and kubeconfigs where its configuration names them.
func (c *NodeConfig) copyFiles(root string) error {
	for to, from := range c.Files {
		data, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(root, to), string(data)); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(path, content string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(content), 0o600)
}
