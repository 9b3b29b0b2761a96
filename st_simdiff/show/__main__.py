import argparse
import sys

from st_simdiff.show.cli import add_arguments, run_show

parser = argparse.ArgumentParser(prog="python -m st_simdiff.show")
add_arguments(parser)
sys.exit(run_show(parser.parse_args()))
