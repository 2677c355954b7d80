package config

import (
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"time"
)

// Redacted returns c without secrets: what URLs say of users, passwords and queries.
func (c Config) Redacted() Config {
	c.Repository.URLs = append([]string(nil), c.Repository.URLs...)
	c.Health.HTTP = append([]HTTPCheck(nil), c.Health.HTTP...)
	for i, u := range c.Repository.URLs {
		c.Repository.URLs[i] = redactURL(u)
	}
	for i := range c.Health.HTTP {
		c.Health.HTTP[i].URL = redactURL(c.Health.HTTP[i].URL)
	}
	c.Repository.Proxy = redactURL(c.Repository.Proxy)
	return c
}

func redactURL(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "(hidden: it is not a URL)"
	}
	if u.User != nil {
		u.User = url.User("HIDDEN")
	}
	if u.RawQuery != "" {
		u.RawQuery = "HIDDEN"
	}
	if u.Fragment != "" {
		u.Fragment = "HIDDEN"
	}
	return u.String()
}

// Item is one key with its value as text, without secrets, and where it comes from.
type Item struct {
	Key    string `json:"key"`
	Value  any    `json:"value"`
	Origin string `json:"origin"`
}

// Items lists every key in the order of the documentation.
func (l *Loaded) Items() []Item {
	var items []Item
	walk(schema(), reflect.ValueOf(l.Config.Redacted()), "", func(path string, v any) {
		o, set := l.Origin(path)
		if !set {
			o = Origin{}
			if i := strings.Index(path, "["); i > 0 {
				o = l.origins[path[:i]]
			}
		}
		items = append(items, Item{Key: path, Value: v, Origin: o.String()})
	})
	return items
}

func walk(f *field, v reflect.Value, path string, visit func(string, any)) {
	for i, c := range f.sub {
		at, x := join(path, c.name), v.Field(i)
		switch {
		case c.isSection():
			walk(c, x, at, visit)
		case c.isSections():
			for j := range x.Len() {
				walk(c, x.Index(j), fmt.Sprintf("%s[%d]", at, j), visit)
			}
			if x.Len() == 0 {
				visit(at, []any{})
			}
		default:
			visit(at, shown(x.Interface()))
		}
	}
}

// shown is a value as it is written in a file.
func shown(v any) any {
	switch v := v.(type) {
	case time.Duration:
		return durationText(v)
	case Size:
		return v.String()
	case Rate:
		return v.String()
	case time.Time:
		if v.IsZero() {
			return ""
		}
		return v.Format(time.RFC3339)
	case []string:
		return append([]string{}, v...)
	}
	return v
}

// Reference is the documentation of every key, as a Markdown list.
func Reference() string {
	var b strings.Builder
	reference(&b, schema())
	return b.String()
}

func reference(b *strings.Builder, f *field) {
	for _, c := range f.sub {
		if c.isSection() {
			reference(b, c)
			continue
		}
		fmt.Fprintf(b, "- `%s`: %s.", c.path, c.doc)
		if c.hasDef && c.def != "" {
			fmt.Fprintf(b, " Default: `%s`.", c.def)
		}
		if len(c.oneOf) > 1 {
			fmt.Fprintf(b, " One of `%s`.", strings.Join(c.oneOf, "`, `"))
		}
		if c.env != "" {
			fmt.Fprintf(b, " Environment: `%s`.", c.env)
		}
		b.WriteString("\n")
		if c.isSections() {
			reference(b, c)
		}
	}
}
