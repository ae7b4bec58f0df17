#!/usr/bin/env bash
# What `cfarm` says and answers: each row runs it and holds it to a status and to words on either stream. The programs
# beside it are stand-ins (tests/scheduler), so that nothing here trains.
#   tests/cli/command.sh BIN_DIR FAKE_DIR
set -u
bin=$(cd "$1" && pwd)
fake=$(cd "$2" && pwd)
rows=$(cd "$(dirname "$0")" && pwd)/rows.sh
work=$(mktemp -d /tmp/cfarm-command-XXXXXX)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export CFARM_PROGRAMS=$fake CFARM_BACKOFF_MS=20
. "$rows"

cfarm=$bin/cfarm
head='farm: pets\nbase: base\ndefaults: {images: x, class: dog, steps: 3}\nconcepts:\n'
printf "$head - {name: a}\n - {name: b, depends: [a]}\nmerge:\n - {name: both, of: [a, b]}\n" >farm.yaml
printf "$head - {name: a, broken: yes}\n" >broken.yaml
printf "$head - {name: bad, fake: {at: 1, does: nan}}\nmerge:\n - {name: m, of: [bad, ./other.h5]}\n" >bad.yaml
sed -i 's/farm: pets/farm: badpets/' bad.yaml
printf "$head - {name: a, hold: yes}\n - {name: b}\n" | sed 's/farm: pets/farm: held/' >held.yaml

row 2 'usage: cfarm COMMAND' "$cfarm"
row 0 'exit status: 0 all done' "$cfarm" help
row 0 '^cfarm [0-9]+\.[0-9]+' "$cfarm" --version
row 2 'did you mean status' "$cfarm" statsu
row 2 'did you mean train' "$cfarm" tarin farm.yaml
row 2 'usage: cfarm train' "$cfarm" train
row 2 'usage: cfarm train' "$cfarm" train farm.yaml --workers none
row 2 'usage: cfarm train' "$cfarm" train farm.yaml other.yaml
row 2 'nowhere.yaml' "$cfarm" train nowhere.yaml
row 2 'usage: cfarm plan' "$cfarm" plan
row 2 'a: broken' "$cfarm" plan broken.yaml
row 2 'broken.yaml has mistakes; nothing was begun' "$cfarm" train broken.yaml
row 1 '' test -e pets
row 2 'pets: cannot open' "$cfarm" status pets
row 0 'farm pets in .*: 2 concepts, 2 to train, 1 merges' "$cfarm" plan farm.yaml
row 1 '' test -e pets
row 0 '"concepts"' "$cfarm" plan farm.yaml --json
row 0 '^no time limit$' env -u SLURM_JOB_ID "$cfarm" plan farm.yaml
printf "$head - {name: a}\n - {name: b, steps: 4000}\nlimits: {time_limit: 100s, workers: 2}\n" | sed 's/farm: pets/farm: brief/' >brief.yaml
row 0 '^100 s left, 80 s of them to train in, 2 slots, 2 s for a sample \(an assumption' "$cfarm" plan brief.yaml
row 0 '^1 will finish, 1 will not' "$cfarm" plan brief.yaml
row 0 '^b +will not finish$' "$cfarm" plan brief.yaml
row 0 '"will_not_finish":\["b"\]' "$cfarm" plan brief.yaml --json
row 0 'end done done 3 of 3' "$cfarm" train farm.yaml --workers 2
rm -f pets/exit
row 0 'nothing to do: 3 of 3 done' "$cfarm" train farm.yaml
row 0 '2 concepts, 0 to train' "$cfarm" plan farm.yaml
row 0 'farm pets: done, 3 done' "$cfarm" status pets
row 0 'farm pets: done, 3 done' "$cfarm" status farm.yaml
row 0 '"state":"done"' "$cfarm" status pets --json
row 0 '"slot_seconds":\{"train":' "$cfarm" status pets --json
row 0 'cfarm_slot_seconds_total\{farm="pets",use="idle_no_work"\} [0-9]' "$cfarm" metrics pets
row 0 '^cfarm_jobs\{farm="pets",state="done"\} 3$' "$cfarm" metrics pets
row 0 '^# EOF$' "$cfarm" metrics pets
row 0 '^$' "$cfarm" metrics pets --out pets.prom
row 0 '^cfarm_up\{farm="pets"\} 0$' cat pets.prom
row 2 'usage: cfarm metrics' "$cfarm" metrics pets --out
row 0 '10 concepts on 8 GPUs \(h200, assumed\)' "$cfarm" simulate --gpus 8 --concepts 10
row 0 '"slot_seconds":\{"train":' "$cfarm" simulate --json --machine a100
row 2 'did you mean --gpus' "$cfarm" simulate --gpu 8
row 2 'a100, h200 and l40s' "$cfarm" simulate --machine abacus
row 2 'a whole number' "$cfarm" simulate --gpus 1.5
row 2 'no method whose times are known' "$cfarm" simulate --mix hypernetwork
row 2 'nowhere.json' "$cfarm" simulate --times nowhere.json
"$cfarm" simulate --json | sed 's/.*"times"://; s/}$//' >times.json
row 0 'on [0-9,]+ GPUs? \(h200, assumed\)' "$cfarm" simulate --machine a100 --times times.json
row 0 '^0$' cat pets/exit
row 1 'bad is quarantined|quarantined concept bad' "$cfarm" train bad.yaml
row 1 'm waits for what is not done' "$cfarm" train bad.yaml
row 1 'attempt 4' "$cfarm" train bad.yaml --retry
row 0 'end done done 1 of 2' "$cfarm" train held.yaml
row 0 'nothing to do: 1 of 2 done, 1 on hold' "$cfarm" train held.yaml
sed -i 's/, hold: yes//' held.yaml
row 0 'end done done 2 of 2' "$cfarm" train held.yaml
row 2 'only 40 files may be open here, and at least 64' bash -c "ulimit -n 40; '$cfarm' train farm.yaml"
row 2 'usage: cfarm submit' "$cfarm" submit
row 2 'usage: cfarm submit' "$cfarm" submit farm.yaml --nodes
row 2 'usage: cfarm submit' "$cfarm" submit farm.yaml --array 0-3 --mpirun
row 2 'usage: cfarm submit' "$cfarm" submit farm.yaml --sbatch constraint=a
row 2 'usage: cfarm submit' "$cfarm" submit farm.yaml --time $'1\n#SBATCH --wrap=x'
row 0 '^#SBATCH --nodes=4$' "$cfarm" submit farm.yaml --print --nodes 4
row 0 "^dir='$work/pets'\$" "$cfarm" submit farm.yaml --print
row 0 'srun --mpi=pmix -K0 -k' "$cfarm" submit farm.yaml --print
row 0 '^    mpirun -N 1' "$cfarm" submit farm.yaml --print --mpirun
row 0 '^#SBATCH --array=0-7%2$' "$cfarm" submit farm.yaml --print --array 0-7%2
row 0 'agent --join "\$dir"' "$cfarm" submit farm.yaml --print --array 0-7
row 0 '^#SBATCH --constraint="a b"$' "$cfarm" submit farm.yaml --print --sbatch '--constraint=a b'
row 1 '' sh -c "'$cfarm' submit farm.yaml --print --nodes 4 | grep nodes=1"
row 2 'broken.yaml has mistakes' "$cfarm" submit broken.yaml
row 2 'sbatch is not in PATH' env PATH=/nowhere "$cfarm" submit farm.yaml
mkdir queue && printf '#!/bin/sh\necho "77;cluster"; echo "$@" >queue/got\n' >queue/sbatch && chmod +x queue/sbatch
row 0 '^job 77: farm pets, .*/pets/farm.sbatch$' env PATH="$work/queue:$PATH" "$cfarm" submit farm.yaml --nodes 2
row 0 "^--parsable $work/pets/farm.sbatch $work/farm.yaml\$" cat queue/got
row 0 '^#SBATCH --nodes=2$' cat pets/farm.sbatch
row 0 '' bash -n pets/farm.sbatch
printf '#!/bin/sh\necho "no such partition" >&2; exit 1\n' >queue/sbatch
row 2 'no such partition' env PATH="$work/queue:$PATH" "$cfarm" submit farm.yaml
sed -i 's/steps: 3/steps: 4/' farm.yaml
row 2 'a is done, and its settings changed \(steps: 3 became 4\)' "$cfarm" train farm.yaml
sed -i 's/steps: 4/steps: 3/' farm.yaml
printf 'x' | dd of=pets/journal/000001.log bs=1 seek=60 conv=notrunc status=none
row 3 '000001.log: offset 48: the journal is damaged' "$cfarm" train farm.yaml
row 2 'a.h5 is not a flag' "$cfarm" eval a.h5
row 2 'what is export' "$cfarm" export a.h5
mkdir alone && cp "$cfarm" alone/
row 3 'cfarm-eval is not there; build or install it' alone/cfarm eval a.h5
row 3 'bad +program +.*alone/cfarm-sample is not there' sh -c 'alone/cfarm doctor >doctored; status=$?; cat doctored; exit $status'
row 0 'cores +[0-9]+ of [0-9]+ may be used' cat doctored
row 0 'fsync +[0-9.]+ ms' cat doctored
row 0 'recovery +a rank that dies is its own affair: the other 2 lived on|mpirun +not in PATH' cat doctored
row 3 '"verdict": "bad"' env PATH=/nowhere alone/cfarm doctor --json
row 3 'disk +.*nowhere' env PATH=/nowhere alone/cfarm doctor nowhere
row 2 'usage: cfarm doctor' "$cfarm" doctor --fast

rows_end command
