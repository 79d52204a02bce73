"""Training of `pygpt.model.Model` on text. Of the modules here only `config` does without torch."""
