"""python -m pocketgenie"""

from pocketgenie.cli import main

main()
