#!/usr/bin/env bash
# Laws of the minimal build: a folder of archives is enough to configure it where there is neither pkg-config nor MPI nor a package's
# headers; it has no scheduler and what checks a GPU; a folder that lacks one says which; a folder that is there is not written over.
#
#   archives.sh SOURCE_DIR
set -euo pipefail
src=$1
dir=$(mktemp -d /tmp/cfarm-archives-XXXXXX)
trap 'rm -rf "$dir"' EXIT

fail() { echo "archives.sh: $*"; tail -n 20 "$dir/log" 2>/dev/null; exit 1; }

"$src/cluster/archives" "$dir/minimal" >"$dir/log" || fail 'no folder of archives'
! "$src/cluster/archives" "$dir/minimal" 2>"$dir/log" || fail 'a folder that is there is made again'
grep -q 'is there already' "$dir/log" || fail 'a folder that is there is not told'

# Of the programs only what a bare host has; of the packages' own places nothing is looked at.
mkdir "$dir/path"
for program in cmake cc gcc as ld ar ranlib strip make uname sh; do ln -s "$(command -v "$program")" "$dir/path/"; done
configure() {
    env -i PATH="$dir/path" cmake -G 'Unix Makefiles' -S "$src" -B "$dir/build" -DCFARM_MINIMAL="$1" -DCMAKE_MAKE_PROGRAM="$dir/path/make" \
        -DCMAKE_DISABLE_FIND_PACKAGE_PkgConfig=ON -DCMAKE_DISABLE_FIND_PACKAGE_MPI=ON -DCMAKE_DISABLE_FIND_PACKAGE_ZLIB=ON >"$dir/log" 2>&1
}
configure "$dir/minimal" || fail 'it does not configure'
env -i PATH="$dir/path" make -C "$dir/build" help >"$dir/targets"
for target in golden_check bench_ops bench_step test_every_kernel test_grad test_cuda test_flash cfarm-worker cfarm-sample cfarm-merge; do
    grep -qx "\.\.\. $target" "$dir/targets" || fail "it has no $target"
done
! grep -q 'scheduler\|comm_mpi\|standin' "$dir/targets" || fail 'it has what a bare host has no use for'
! grep -rhE --include=flags.make -e '-I ?/usr/|-isystem /usr/' "$dir/build" || fail 'it takes headers of packages'

rm "$dir/minimal/lib/libyaml.a"
rm -rf "$dir/build"
! configure "$dir/minimal" || fail 'it configures without an archive'
grep -q 'lib/libyaml.a' "$dir/log" || fail 'a missing archive is not named'
