"""Templates of the scripts that sbatch gets; a site may put its own in their place.

Every value that a template prints is quoted for the shell by itself. What is meant to be shell text, the
lines of `set_up`, is printed with `| verbatim`; words of #SBATCH lines with `| directive`, for sbatch has
its own rules.
"""
