"""The runner behind the shell scripts: configuration → commands → chain → status lines and results."""
