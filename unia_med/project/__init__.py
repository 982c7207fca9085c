"""Writes the config of a project from a folder as it is: what is image, what is label, what each value means."""
