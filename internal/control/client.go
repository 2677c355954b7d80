package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/evenkeel-os/evenkeel/updater"
)

// ErrNoAgent means that no agent listens on this host.
var ErrNoAgent = errors.New("no agent runs")

// Client talks to the agent whose socket is in a run directory.
type Client struct {
	http *http.Client
}

// Dial returns a client, or ErrNoAgent, or why an agent cannot be reached that may be there.
func Dial(ctx context.Context, dir string) (*Client, error) {
	path := filepath.Join(dir, SocketName)
	connect := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	conn, err := connect(ctx, "", "")
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, ErrNoAgent
	case err != nil:
		return nil, fmt.Errorf("cannot reach the agent: %w", err)
	}
	_ = conn.Close()
	// Nothing is kept open between calls: a Client needs no Close.
	return &Client{http: &http.Client{Transport: &http.Transport{DialContext: connect, DisableKeepAlives: true}}}, nil
}

// Submit hands the agent an intent and waits for its answer.
func (c *Client) Submit(ctx context.Context, in updater.Intent) (ans updater.Answer, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return ans, err
	}
	return ans, c.call(ctx, http.MethodPost, "intent", bytes.NewReader(body), &ans)
}

// Status reads the agent's status into v.
func (c *Client) Status(ctx context.Context, v any) error {
	return c.call(ctx, http.MethodGet, "status", nil, v)
}

func (c *Client) call(ctx context.Context, method, what string, body io.Reader, v any) error {
	resp, err := c.do(ctx, method, what, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		return fmt.Errorf("cannot read the agent's answer: %w", err)
	}
	return nil
}

func (c *Client) do(ctx context.Context, method, what string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://agent/v1/"+what, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("cannot talk to the agent: %w", err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return nil, fmt.Errorf("the agent says: %s", strings.TrimSpace(string(text)))
	}
	return resp, nil
}

// Watch calls on for every message from the moment it returns, in order, on one goroutine. The channel gives the reason why
// it ended: nil when ctx did.
func (c *Client) Watch(ctx context.Context, on func(Message)) (<-chan error, error) {
	resp, err := c.do(ctx, http.MethodGet, "watch", nil)
	if err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() {
		defer resp.Body.Close()
		d := json.NewDecoder(resp.Body)
		for {
			var m Message
			if err := d.Decode(&m); err != nil {
				if ctx.Err() != nil {
					err = nil
				}
				ended <- err
				return
			}
			on(m)
		}
	}()
	return ended, nil
}
