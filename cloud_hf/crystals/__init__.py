"""From anything a user holds to a crystal: files, texts, archives and objects become `Cell`s."""
