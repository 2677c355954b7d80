// Package config reads the agent's configuration and returns it as one validated value.
//
// # Where values come from
//
// Later ones win, key by key; a list is replaced as a whole:
//
//	defaults
//	/etc/evenkeel/config.yaml               in the image; belongs to this version of the agent
//	STATE/config.d/*.yaml, by name          on the state partition; shared by both slots
//	the environment variables of Variables  no others
//	flags
//
// # What is refused
//
// A configuration is right or it is refused, with every problem, each with its file and line: keys that do not exist, at any
// depth; durations, sizes and rates without a unit; text where a number belongs and the other way round; a key given
// twice; YAML aliases and several documents. There is one exception. Files in config.d are read by the agents of both
// slots, so a key there that this agent does not know may be one that the other's does: it is a warning, and an error only
// with Sources.Strict, which is what "evenkeel config check" is for.
//
// This is the only package that knows viper. What viper would do by itself is kept from it: its types are weak, it takes
// "5" for five nanoseconds, and an environment variable named like a section blanks the section.
package config
