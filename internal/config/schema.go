package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// field is one key of the schema: a value, a section, or a list of sections.
type field struct {
	name   string
	path   string // dotted, from the top; elements of lists as "slots.roles[]"
	typ    reflect.Type
	def    string
	hasDef bool
	env    string
	oneOf  []string
	secret string
	doc    string
	sub    []*field // of a section, or of the elements of a list
}

func (f *field) isSection() bool { return f.typ.Kind() == reflect.Struct && f.typ != timeType }

func (f *field) isList() bool { return f.typ.Kind() == reflect.Slice }

func (f *field) isSections() bool { return f.isList() && f.typ.Elem().Kind() == reflect.Struct }

var timeType = reflect.TypeFor[time.Time]()

// schema reads the tags of Config.
func schema() *field {
	top := &field{typ: reflect.TypeFor[Config]()}
	top.sub = fieldsOf(top.typ, "")
	return top
}

func fieldsOf(t reflect.Type, prefix string) []*field {
	fs := make([]*field, 0, t.NumField())
	for i := range t.NumField() {
		tag := t.Field(i).Tag
		f := &field{name: tag.Get("mapstructure"), typ: t.Field(i).Type, env: tag.Get("env"), secret: tag.Get("secret"), doc: tag.Get("doc")}
		f.def, f.hasDef = tag.Lookup("default")
		f.oneOf = strings.Fields(tag.Get("oneof"))
		f.path = prefix + f.name
		switch {
		case f.isSection():
			f.sub = fieldsOf(f.typ, f.path+".")
		case f.isSections():
			f.sub = fieldsOf(f.typ.Elem(), f.path+"[].")
		}
		fs = append(fs, f)
	}
	return fs
}

func (f *field) child(name string) *field {
	for _, c := range f.sub {
		if c.name == name {
			return c
		}
	}
	return nil
}

// leaves calls visit for every value below f that is not in a list of sections, and for those lists.
func (f *field) leaves(visit func(*field)) {
	for _, c := range f.sub {
		if c.isSection() {
			c.leaves(visit)
		} else {
			visit(c)
		}
	}
}

// find returns the value with a dotted path, or nil.
func (f *field) find(path string) *field {
	var found *field
	f.leaves(func(c *field) {
		if c.path == path {
			found = c
		}
	})
	return found
}

// parse reads a value from text: a default, an environment variable, a flag, or a YAML scalar of the right kind. Lists
// are separated by blanks.
func (f *field) parse(text string) (any, error) {
	if f.isList() {
		words := strings.Fields(text)
		for _, w := range words {
			if err := f.allowed(w); err != nil {
				return nil, err
			}
		}
		return append([]string{}, words...), nil
	}
	switch f.typ {
	case reflect.TypeFor[time.Duration]():
		return ParseDuration(text)
	case reflect.TypeFor[Size]():
		return ParseSize(text)
	case reflect.TypeFor[Rate]():
		return ParseRate(text)
	case timeType:
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return nil, fmt.Errorf("%q is not a time: write it as in 2026-11-24T06:00:00Z", text)
		}
		return t, nil
	}
	return f.parseBasic(text)
}

func (f *field) parseBasic(text string) (any, error) {
	switch f.typ.Kind() {
	case reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("%q is not a whole number", text)
		}
		return n, nil
	case reflect.Bool:
		switch text {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
		return nil, fmt.Errorf("%q is neither true nor false", text)
	}
	return text, f.allowed(text)
}

func (f *field) allowed(word string) error {
	if len(f.oneOf) == 0 || slices.Contains(f.oneOf, word) {
		return nil
	}
	if len(f.oneOf) == 1 {
		return fmt.Errorf("%q is not known: use %s", word, f.oneOf[0])
	}
	return fmt.Errorf("%q is not known: use one of %s", word, strings.Join(f.oneOf, ", "))
}

// wants says what kind of value f is, for messages.
func (f *field) wants() string {
	switch {
	case f.isSection():
		return "a section"
	case f.isSections():
		return "a list of sections"
	case f.isList():
		return "a list of texts"
	}
	switch f.typ {
	case reflect.TypeFor[time.Duration]():
		return "a duration with a unit, such as 15m"
	case reflect.TypeFor[Size]():
		return "a size with a unit, such as 64MiB"
	case reflect.TypeFor[Rate]():
		return "a rate with a unit, such as 2MiB/s"
	case timeType:
		return "a time, such as 2026-11-24T06:00:00Z"
	}
	switch f.typ.Kind() {
	case reflect.Int:
		return "a whole number"
	case reflect.Bool:
		return "true or false"
	}
	return "text"
}

// Variable is an environment variable that sets a key.
type Variable struct{ Name, Key string }

// Variables lists every environment variable that is looked at.
func Variables() []Variable {
	var vs []Variable
	schema().leaves(func(f *field) {
		if f.env != "" {
			vs = append(vs, Variable{Name: f.env, Key: f.path})
		}
	})
	return vs
}

// closest returns the name of a child of f that a person may have meant, or "".
func (f *field) closest(name string) string {
	best, at := "", 3
	for _, c := range f.sub {
		if d := distance(strings.ToLower(name), c.name); d < at && d < len(c.name) {
			best, at = c.name, d
		}
	}
	return best
}

// distance is how many letters must be added, removed or changed to make a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
