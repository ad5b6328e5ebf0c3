"""Words of options that several commands share."""

ALLOW_HELP = "let models of kind 'module' import and run the Python code that their path names"
