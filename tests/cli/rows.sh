# Rows of a test: a command, the status it must end with, and words on either stream. To be sourced.
#   row STATUS REGEX COMMAND...
# ROW_S: seconds that a command may take.
#   rows_end NAME                 tells how it went, and is the script's status
passed=0 failed=0 ROW_S=${ROW_S:-60}

row() {
    local status=$1 regex=$2 text got
    shift 2
    text=$(timeout -k 1 "$ROW_S" "$@" 2>&1 </dev/null)
    got=$?
    if [ "$got" = "$status" ] && grep -qE -- "$regex" <<<"$text"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAIL %s: status %s (wanted %s)\n  wanted: %s\n  got:    %s\n' "$*" "$got" "$status" "$regex" "$(head -n 5 <<<"$text")"
    fi
}

rows_end() {
    echo "$1: $passed rows hold, $failed do not"
    exit $((failed > 0))
}
