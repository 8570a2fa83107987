//go:build tools

// Package tools names the commands that the cluster tool builds.
package tools

import _ "go.etcd.io/etcd/server/v3"
