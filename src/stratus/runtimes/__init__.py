"""What invokes functions: this machine, an HTTP container, a cloud. Know events and budgets; not what they do."""
