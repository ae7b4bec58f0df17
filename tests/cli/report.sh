#!/usr/bin/env bash
# `cfarm report` on a farm of its own: the page is whole HTML that fetches nothing, every concept is in it, no text is taken for markup,
# a second report makes no pictures; and in a browser, where there is one, every panel shows something and the blind test keeps
# its answers.
#   tests/cli/report.sh BIN_DIR SOURCE_DIR [page | browser]
set -euo pipefail
bin=$(cd "$1" && pwd)
src=$(cd "$2" && pwd)
what=${3:-page}
here=$src/tests/cli
toy=$src/data/toyworld
browser=$(command -v chromium || true)
if [ "$what" = browser ] && [ -z "$browser" ]; then
    echo "chromium is not installed: the page was not looked at"
    exit 77
fi
work=$(mktemp -d /tmp/cfarm-report-XXXXXX)
trap 'rm -rf "$work"' EXIT
PATH=$bin:$PATH
cd "$work"
bad=0
wrong() { echo "FAIL $1"; bad=1; }
page() { python3 "$here/report_page.py" "$@" || wrong "report_page.py $1"; }

# Two subjects, their merge, a joint training, another method on the same pictures, and one that cannot be trained.
for k in 01 02; do printf '%s\t%s\n' "$toy/regularisation/mug/$k.png" "a mug"; done >list.tsv
cfarm reg index list.tsv -o mugs.index --model "$toy/model" 2>/dev/null
cat >farm.yaml <<END
farm: shown
base: $toy/model
defaults: {steps: 3, batch: 2, probe: 2}
concepts:
  - {name: mug, class: mug, images: $toy/subjects/mug, token: <mug>}
  - {name: creature, class: creature, images: $toy/subjects/creature, token: <creature>}
  - {name: mug-words, class: mug, images: $toy/subjects/mug, token: <word>, method: textual-inversion}
  - name: both
    subjects:
      - {class: mug, images: $toy/subjects/mug, token: <jmug>}
      - {class: creature, images: $toy/subjects/creature, token: <jcreature>}
  - {name: lost, class: mug, images: $toy/subjects/mug, token: <lost>, regularisation: {index: mugs.index, count: 2, similarity: 0.999}}
merge:
  - {name: mug+creature, of: [mug, creature]}
END
cfarm report farm.yaml 2>early && wrong 'a report of a farm that has not run'
grep -q 'no farm has run here' early || wrong "what is said of a farm that has not run: $(cat early)"
cfarm train farm.yaml --workers 1 </dev/null >train.log 2>&1 && wrong 'the farm should end with a failure'
[ -f "shown/out/mug+creature.h5" ] || { tail -n 20 train.log; exit 1; }

# Prompts: in the merge's words, with places, and one that looks like markup.
printf '%s\n' 'photo of a <mug> mug' 'a {0} beside a {1}' 'a {0} & <script>alert("x")</script>' >prompts.txt
ask=(--prompts prompts.txt --steps 2 --count 2)
cfarm report shown "${ask[@]}" --out page.html 2>first || { cat first; exit 1; }

if [ "$what" = page ]; then
    page structure page.html mug creature mug-words both lost mug+creature
    page says page.html 'a <mug> mug & <script>alert("x")</script>' 'lower similarity, add pictures' 'on the fixed draws' \
        'Methodvarious' 'Batch2' 'since the last start: '
    page columns page.html 'base,mug,creature,joint,merged' 'base,mug-words'
    page pairs page.html
    cfarm report shown "${ask[@]}" --out again.html 2>second
    cmp -s page.html again.html || wrong 'a second report of the same farm has other bytes'
    [ "$(grep -c ' pictures ' first)" = 7 ] && ! grep -q ' pictures ' second || wrong "a second report makes pictures: $(cat first second)"
    cfarm report shown --pictures=false -o plain.html 2>/dev/null || wrong 'a report without pictures'
    page structure plain.html mug creature mug-words both lost mug+creature
    ! grep -q 'data:image' plain.html || wrong 'pictures in a report without'
    # Mistakes: file, place, remedy; and no page.
    cfarm report shown --model "$work/nowhere" --out no.html 2>said && wrong 'a base model that is not there'
    grep -q 'pictures need the base model (--model DIR, or --pictures=false).*nowhere' said || wrong "said: $(cat said)"
    cfarm report nowhere 2>said && wrong 'a farm that is not there'
    cfarm report shown --promts prompts.txt 2>said && wrong 'a flag that is none'
    grep -q 'did you mean.*prompts' said || wrong "said: $(cat said)"
    cfarm report shown --prompts absent.txt --out no.html 2>said && wrong 'a file of prompts that is not there'
    grep -q 'absent.txt' said || wrong "said: $(cat said)"
    [ ! -e no.html ] || wrong 'a page although something was wrong'
    truncate -s 3000 shown/out/mug.h5
    cfarm report shown --pictures=false --out no.html 2>said && wrong 'a damaged concept'
    grep -q 'mug.h5' said && [ ! -e no.html ] || wrong "a damaged concept: $(cat said)"
    [ "$bad" = 0 ] && echo 'the page is right'
    exit "$bad"
fi

# In the browser: a script is put into a copy of the page, does what a person would, and leaves what it found in the title.
look() { # WIDTH HEIGHT FILE FLAG...
    local size=$1,$2 file=$3
    shift 3
    timeout 100 "$browser" --headless=new --no-sandbox --disable-gpu --hide-scrollbars --no-first-run --user-data-dir="$work/profile" \
        --force-device-scale-factor=1 --window-size="$size" "$@" "file://$work/$file" 2>/dev/null
}
with() { sed '/<\/body>/,$d' "$1" && echo '<script>' && cat "$2" && echo '</script></body></html>'; }
cat >measure.js <<'END'
document.querySelectorAll("details").forEach(function (d) { d.open = true; });
document.getElementById("test-begin").click(); window.scrollTo(0, 0);
document.title = Array.from(document.querySelectorAll("header, #facts, .grid img, .own img, .curve, .timeline, section, #test-pair"))
  .map(function (x) { var r = x.getBoundingClientRect();
    return [Math.floor(r.left), Math.floor(r.top), Math.ceil(r.width), Math.ceil(r.height)].join(","); }).join(" ");
END
cat >answer.js <<'END'
(function () {
  var key = function (k) { document.dispatchEvent(new KeyboardEvent("keydown", { key: k, bubbles: true })); };
  var n = JSON.parse(document.getElementById("pairs").textContent).length;
  document.getElementById("test-begin").click();
  key("ArrowLeft"); key("ArrowRight"); key("Backspace"); key(" "); document.getElementById("test-right").click();
  document.title = [n, document.getElementById("test-count").textContent,
    Object.keys(localStorage).map(function (k) { return JSON.parse(localStorage[k]).map(function (a) { return a.choice; }).join("-"); })].join("|");
})();
END
cat >goes_on.js <<'END'
(function () {
  var n = JSON.parse(document.getElementById("pairs").textContent).length;
  document.getElementById("test-begin").click();
  var at = document.getElementById("test-count").textContent;
  var file; URL.createObjectURL = function (b) { file = b; return "#"; };
  for (var i = 3; i < n; i++) document.getElementById("test-left").click();
  document.getElementById("test-save").click();
  file.text().then(function (t) {
    document.title = [at, t.trim().split("\n").length - 1, n, document.querySelectorAll("#test-result tr").length > 1].join("|"); });
})();
END
title() { grep -o '<title>[^<]*</title>' | head -n 1 | sed 's/<[^>]*>//g'; }
for width in 1100 560; do
    with page.html measure.js >measured.html
    rects=$(look $width 9000 measured.html --virtual-time-budget=3000 --dump-dom | title)
    look $width 9000 measured.html --virtual-time-budget=3000 --screenshot="$work/$width.png" >/dev/null
    # shellcheck disable=SC2086
    panels $width.png $rects || wrong "panels at $width pixels"
done
with page.html answer.js >blind.html
got=$(look 1100 900 blind.html --virtual-time-budget=3000 --dump-dom | title)
n=${got%%|*}
[ "$got" = "$n|Question 4 of $n|left-neither-right" ] || wrong "keys and clicks: $got"
with page.html goes_on.js >blind.html # the same name: localStorage is by page
got=$(look 1100 900 blind.html --virtual-time-budget=3000 --dump-dom | title)
[ "$got" = "Question 4 of $n|$n|$n|true" ] || wrong "going on: $got"
[ "$bad" = 0 ] && echo 'the browser shows what it should'
exit "$bad"
