"""Training of `pygpt.model.Model` on text. `config`, `saved_steps` and `stop` do without torch."""
