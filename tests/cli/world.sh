#!/usr/bin/env bash
# The small trained model that the repository carries draws what it is asked for: pictures for captions that no training saw,
# told by an examiner that learnt from the painter's truth (trainer/scratch). A sample of the exam in data/toyworld/world/README.md,
# with room for the chance of so few pictures.
#   world.sh BIN SOURCE
set -euo pipefail
bin=$1 world=$2/data/toyworld/world
out=$("$bin/scratch" "$world/model" "$world" exam --prompts 48 --steps 16 --threads 1)
echo "$out"

# at_least WHAT LEAST: of the model's pictures
at_least() {
    share=$(sed -n "s/.*\"pictures of the model\".*\"$1\": \([0-9.]*\).*/\1/p" <<<"$out")
    [ -n "$share" ] || { echo "the exam does not speak of $1"; exit 1; }
    awk -v is="$share" -v least="$2" -v what="$1" 'BEGIN { if (is < least) { print what ": " is ", at least " least; exit 1 } }'
}

at_least background 0.85
at_least colour 0.85
at_least class 0.85
at_least relation 0.50
