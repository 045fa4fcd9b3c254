// SPDX-License-Identifier: Apache-2.0

// Package protectionlog records who was refused by deletion protection or a budget: one JSON object per refusal in
// protection.log, and counters whose number of series is bounded (platform 3.1, deletion-protection 5, security 5.11).
//
// What it writes holds user names, which are personal data: files are 0600 and old ones go away.
package protectionlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/go-logr/logr"
)

// FileName is the name of the log in its directory; rotated files carry .1 (the newest) to .5 behind it.
const FileName = "protection.log"

// Limits of the log on disk (security 5.11).
const (
	maxSize = 50 << 20 // bytes of one file
	maxOld  = 5        // rotated files beside the current one
)

// Stdout as a path writes to the standard output instead, each line with the field audit=protection.
const Stdout = "-"

// Entry is one refusal. Names and order of the fields are contract.
type Entry struct {
	Event     string // DeletionProtection or PodUnavailableBudget
	Kind      string
	Namespace string
	Name      string
	// UserAgent is the name of the user, not of a program.
	UserAgent string
}

// Log writes entries. The zero value and nil drop them.
type Log struct {
	mu      sync.Mutex
	out     io.Writer
	file    *os.File
	path    string
	size    int64
	maxSize int64
	stdout  bool
	errors  logr.Logger
}

// Open opens the log in a directory, which it makes if it can. Stdout writes to the standard output, and an empty
// directory is a log that drops everything. Failures to write later are reported to errs and don't fail anything else.
func Open(dir string, errs logr.Logger) (*Log, error) {
	switch dir {
	case "":
		return &Log{}, nil
	case Stdout:
		return &Log{out: os.Stdout, stdout: true, errors: errs}, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("protection log: %w", err)
	}
	l := &Log{path: filepath.Join(dir, FileName), maxSize: maxSize, errors: errs}
	return l, l.open()
}

func (l *Log) open() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("protection log: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.Mode().Perm() != 0o600 {
		err = f.Chmod(0o600) // of an older version
	}
	if err != nil {
		return errors.Join(fmt.Errorf("protection log: %w", err), f.Close())
	}
	l.file, l.out, l.size = f, f, info.Size()
	return nil
}

// Record writes one entry.
func (l *Log) Record(e Entry) {
	if l == nil || l.out == nil {
		return
	}
	var line []byte
	var err error
	if l.stdout {
		line, err = json.Marshal(struct {
			Entry
			Audit string `json:"audit"`
		}{e, "protection"})
	} else {
		line, err = json.Marshal(e)
	}
	if err == nil {
		err = l.write(append(line, '\n'))
	}
	if err != nil {
		l.errors.Error(err, "A refusal could not be written to the protection log")
	}
}

func (l *Log) write(line []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil && l.size+int64(len(line)) > l.maxSize && l.size > 0 {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	n, err := l.out.Write(line)
	l.size += int64(n)
	return err
}

// rotate renames protection.log to protection.log.1 and so on; the oldest file is overwritten.
func (l *Log) rotate() error {
	for n := maxOld; n > 0; n-- {
		from := l.path
		if n > 1 {
			from += "." + strconv.Itoa(n-1)
		}
		if err := os.Rename(from, l.path+"."+strconv.Itoa(n)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := l.file.Close(); err != nil {
		return err
	}
	return l.open()
}

// Close closes the file.
func (l *Log) Close() error {
	if l == nil || l.file == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out = nil
	return l.file.Close()
}

var current atomic.Pointer[Log]

// Use makes Record write to l from now on, for the whole process.
func Use(l *Log) { current.Store(l) }

// Record writes to the log of the process, if there is one.
func Record(e Entry) { current.Load().Record(e) }
