#!/usr/bin/env bash
# Nothing outside trainer/method asks which method it has: what differs between methods stands in their rows (method.h).
#   tests/trainer/method_names.sh [ROOT]        one line per place that asks; status 1 if there is any
#   tests/trainer/method_names.sh --self-test   plants such places and demands that each is found
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)

check() {
    local names symbols
    names=$(sed -n '/method_names\[\] = {/,/};/p' "$1/trainer/method/method.c" | grep -o '"[a-z-]*"' | tr -d '"' | paste -sd'|')
    [ -n "$names" ] || { echo "no names in $1/trainer/method/method.c"; return 2; }
    symbols=${names//-/_}
    cd "$1"
    ! grep -rnE --include='*.[ch]' "(\bmethod_($symbols)\b|(strn?cmp|str_starts|str_ends|method_find|mem_text)\([^;]*\"($names)\"|\b(by|how|method)(->|\.)name *[!=]=)" \
        cluster configs data trainer merge scheduler | grep -vE '^trainer/method/'
}

if [ "${1:-}" = --self-test ]; then
    work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
    for folder in cluster configs data trainer/method merge scheduler; do mkdir -p "$work/$folder"; done
    cp "$here/trainer/method/method.c" "$work/trainer/method/"
    (check "$work") || { echo "finds something where nothing is"; exit 1; }
    for line in 'if (strcmp(c->method, "lora") == 0)' 'const method *m = &method_svdiff;' 'c->method = mem_text("custom-diffusion");' \
        'method_find("fine-tune-all")' 'if (by->name == wanted)'; do
        echo "$line" >"$work/trainer/planted.c"
        if (check "$work" >/dev/null); then echo "not found: $line"; exit 1; fi
    done
    exit 0
fi
check "${1:-$here}"
