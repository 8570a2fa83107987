// Command oracle answers questions about libcni, one JSON object a line in and one out.
//
// The tests of the Rust crate ask it and compare. It only translates: every answer is libcni's own.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/types/create"
	"github.com/containernetworking/cni/pkg/version"
)

type question struct {
	Op string `json:"op"`
	// A result or a configuration.
	Text string `json:"text"`
	// The version to convert to.
	To string `json:"to"`
	// What the other side made of it.
	Ours string `json:"ours"`
	Path string `json:"path"`
	Dir  string `json:"dir"`
	Name string `json:"name"`
	// One call of a network.
	Verb           string                 `json:"verb"`
	Bin            string                 `json:"bin"`
	Cache          string                 `json:"cache"`
	ContainerID    string                 `json:"containerId"`
	NetNS          string                 `json:"netns"`
	IfName         string                 `json:"ifName"`
	Args           [][2]string            `json:"args"`
	CapabilityArgs map[string]interface{} `json:"capabilityArgs"`
	Valid          []types.GCAttachment   `json:"valid"`
}

type plugin struct {
	Type         string          `json:"type"`
	Name         string          `json:"name"`
	CNIVersion   string          `json:"cniVersion"`
	Capabilities map[string]bool `json:"capabilities"`
	IPAMType     string          `json:"ipamType"`
	Bytes        string          `json:"bytes"`
}

type network struct {
	Name         string   `json:"name"`
	CNIVersion   string   `json:"cniVersion"`
	DisableCheck bool     `json:"disableCheck"`
	DisableGC    bool     `json:"disableGC"`
	Plugins      []plugin `json:"plugins"`
}

type answer struct {
	Error string `json:"error"`
	// A result, as libcni prints it.
	Text string `json:"text"`
	// The other side's result, as libcni prints what it read of it.
	Ours        string                      `json:"ours"`
	OursError   string                      `json:"oursError"`
	Network     *network                    `json:"network"`
	Plugin      *plugin                     `json:"plugin"`
	Config      []byte                      `json:"config"`
	Args        [][2]string                 `json:"args"`
	Attachments []*libcni.NetworkAttachment `json:"attachments"`
}

func main() {
	if os.Getenv("ORACLE_AS_PLUGIN") != "" {
		bePlugin()
		return
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var q question
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			fmt.Fprintln(os.Stderr, "oracle: not a question:", err)
			os.Exit(1)
		}
		if err := out.Encode(reply(&q)); err != nil {
			fmt.Fprintln(os.Stderr, "oracle:", err)
			os.Exit(1)
		}
	}
}

func reply(q *question) (a *answer) {
	a = &answer{}
	defer func() {
		if p := recover(); p != nil {
			a = &answer{Error: fmt.Sprint("panic: ", p)}
		}
	}()
	if err := q.answer(a); err != nil {
		a.Error = err.Error()
	}
	return a
}

func (q *question) answer(a *answer) (err error) {
	switch q.Op {
	case "convert":
		if q.Ours != "" {
			if a.Ours, err = convert(q.Ours, q.To); err != nil {
				a.OursError = err.Error()
			}
		}
		a.Text, err = convert(q.Text, q.To)
	case "parse":
		a.Network, err = describe(parse(q.Text))
	case "file":
		a.Network, err = describe(libcni.NetworkConfFromFile(q.Path))
	case "find":
		a.Network, err = describe(libcni.LoadNetworkConf(q.Dir, q.Name))
	case "plugin":
		var p *libcni.PluginConfig
		if p, err = libcni.NetworkPluginConfFromBytes([]byte(q.Text)); err == nil {
			d := describePlugin(p)
			a.Plugin = &d
		}
	case "call":
		return q.call(a)
	case "cached":
		return q.cached(a)
	case "attachments":
		a.Attachments, err = q.cni().GetCachedAttachments(q.ContainerID)
	default:
		err = fmt.Errorf("unknown question %q", q.Op)
	}
	return err
}

func convert(text, to string) (string, error) {
	result, err := create.CreateFromBytes([]byte(text))
	if err != nil {
		return "", err
	}
	if result, err = result.GetAsVersion(to); err != nil {
		return "", err
	}
	printed, err := json.Marshal(result)
	return string(printed), err
}

// A single plugin is what has a type. Runtimes go by the name of the file, which a text does not have.
func parse(text string) (*libcni.NetworkConfigList, error) {
	var peek struct {
		Type interface{} `json:"type"`
	}
	if json.Unmarshal([]byte(text), &peek) == nil && peek.Type != nil {
		single, err := libcni.ConfFromBytes([]byte(text))
		if err != nil {
			return nil, err
		}
		return libcni.ConfListFromConf(single)
	}
	list, err := libcni.NetworkConfFromBytes([]byte(text))
	if err == nil && len(list.Plugins) == 0 {
		return nil, fmt.Errorf("no plugin, and no folder to find one in")
	}
	return list, err
}

func describe(list *libcni.NetworkConfigList, err error) (*network, error) {
	if err != nil {
		return nil, err
	}
	n := &network{
		Name:         list.Name,
		CNIVersion:   list.CNIVersion,
		DisableCheck: list.DisableCheck,
		DisableGC:    list.DisableGC,
	}
	for _, p := range list.Plugins {
		n.Plugins = append(n.Plugins, describePlugin(p))
	}
	return n, nil
}

func describePlugin(p *libcni.PluginConfig) plugin {
	return plugin{
		Type:         p.Network.Type,
		Name:         p.Network.Name,
		CNIVersion:   p.Network.CNIVersion,
		Capabilities: p.Network.Capabilities,
		IPAMType:     p.Network.IPAM.Type,
		Bytes:        string(p.Bytes),
	}
}

func (q *question) cni() *libcni.CNIConfig {
	return libcni.NewCNIConfigWithCacheDir([]string{q.Bin}, q.Cache, nil)
}

func (q *question) runtime() *libcni.RuntimeConf {
	return &libcni.RuntimeConf{
		ContainerID:    q.ContainerID,
		NetNS:          q.NetNS,
		IfName:         q.IfName,
		Args:           q.Args,
		CapabilityArgs: q.CapabilityArgs,
	}
}

func (q *question) call(a *answer) error {
	list, err := parse(q.Text)
	if err != nil {
		return fmt.Errorf("parse: %w", err)
	}
	ctx, cni, rt := context.Background(), q.cni(), q.runtime()
	switch q.Verb {
	case "ADD":
		result, err := cni.AddNetworkList(ctx, list, rt)
		if err != nil {
			return err
		}
		printed, err := json.Marshal(result)
		a.Text = string(printed)
		return err
	case "DEL":
		return cni.DelNetworkList(ctx, list, rt)
	case "CHECK":
		return cni.CheckNetworkList(ctx, list, rt)
	case "GC":
		return cni.GCNetworkList(ctx, list, &libcni.GCArgs{ValidAttachments: q.Valid})
	case "STATUS":
		return cni.GetStatusNetworkList(ctx, list)
	}
	return fmt.Errorf("unknown verb %q", q.Verb)
}

func (q *question) cached(a *answer) error {
	list := &libcni.NetworkConfigList{Name: q.Name, CNIVersion: q.To}
	result, err := q.cni().GetNetworkListCachedResult(list, q.runtime())
	if err != nil {
		return err
	}
	if result != nil {
		printed, err := json.Marshal(result)
		if err != nil {
			return err
		}
		a.Text = string(printed)
	}
	config, rt, err := q.cni().GetNetworkListCachedConfig(list, q.runtime())
	if err != nil {
		return err
	}
	a.Config = config
	if rt != nil {
		a.Args = rt.Args
	}
	return nil
}

// bePlugin is a plugin as skel makes one, whose verbs all succeed.
func bePlugin() {
	succeed := func(*skel.CmdArgs) error { return nil }
	funcs := skel.CNIFuncs{Add: succeed, Del: succeed, Check: succeed, GC: succeed, Status: succeed}
	skel.PluginMainFuncs(funcs, version.All, "oracle")
}
