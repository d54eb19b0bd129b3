"""The typed configuration schema and the YAML files that ship with the project."""
