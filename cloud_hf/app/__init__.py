"""The demo page in a browser: a crystal in, its string, picture and properties out."""
