"""From a trained ACDNet to a smaller one."""
