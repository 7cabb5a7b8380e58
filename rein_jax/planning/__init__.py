"""What a step needs before it is run: memory, traffic and arithmetic of compiled programs."""
