"""Reads command lines of `vllm serve` (JSON on stdin) with vLLM's own parser and prints what it understood, nothing started."""

import json
import sys

from vllm.entrypoints.cli.serve import ServeSubcommand
from vllm.utils.argparse_utils import FlexibleArgumentParser

parser, command = FlexibleArgumentParser(), ServeSubcommand()
command.subparser_init(parser.add_subparsers(dest="subparser"))
read = []
for line in json.load(sys.stdin):
    arguments = parser.parse_args(line[1:])
    command.validate(arguments)
    read.append(vars(arguments))
print(json.dumps(read, default=str))
