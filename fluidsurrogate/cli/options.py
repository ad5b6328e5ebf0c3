"""Help texts of options that several commands share."""

ALLOW_CODE_HELP = "allow models of kind 'module' to import and run the Python code that their path names"
DEVICE_HELP = "cpu, cuda or mps (default: cpu)"
