import sys

from st_simdiff.cli import main

main(["show", *sys.argv[1:]])
