#!/bin/sh
# Records on a real host what the notebooks read: see README.md beside this file, or record.sh --help.
# POSIX sh; runs as it stands under dash and busybox.
#
# "test && fine ... || todo ..." is if-then-else, since fine cannot fail; text in single quotes is for the guest's shell.
# shellcheck disable=SC2015,SC2016
set -u

usage() {
  cat <<'END'
record.sh --check [GUEST]                           is this host (and guest) ready? One line each: fine, or what to do
record.sh [OPTIONS] GUEST DIR [-- WORKLOAD...]      record all steps into the folder DIR, which must be new or empty

GUEST     name by which ssh reaches the guest as root without asking, such as guest
WORKLOAD  command that runs on this host while each step records, such as: ssh guest ping -c 100 172.16.10.1
          default: iperf3 from the guest to this host, sized for each step

  --dry-run          print the commands, run none
  --address ADDRESS  this host's address as the guest sees it; default: where the guest's ssh connection comes from
  --repeats N        repeats of iperf3 and perf stat, for intervals of confidence; default 3
  --steps LIST       these steps alone, with commas between; default, and all there are:
                     iperf3,perf-stat,perf-kvm-stat,virtiostat,kvmexit,perf-kvm-report,perf-script,trace-cmd
  --seconds N        length of the steps that are timed; default 10
  --guestmount DIR   folder in which the guest's file system is mounted as DIR/PID-OF-QEMU, so that perf names the guest's
                     programs too; default: the guest's kernel symbols alone, which are fetched by ssh

Exits 0 when all went well, 1 when something is missing or a step failed, 2 when it was called wrongly.
END
}

die() { printf 'record.sh: %s\n' "$2" >&2; exit "$1"; }
have() { command -v "$1" >/dev/null 2>&1; }

# A word as the shell needs it, so that what commands.txt holds can be typed again.
q() {
  case $1 in
    '' | *[!A-Za-z0-9_./:=@%+,-]*) printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")" ;;
    *) printf %s "$1" ;;
  esac
}

# The name becomes an argument of ssh and part of commands, so it must look like one.
valid_guest() {
  case $1 in
    '' | -* | *[!A-Za-z0-9._@:%-]*) die 2 "GUEST $(q "$1") is no name that ssh takes: letters, digits and . _ @ : % - only, not - at the begin" ;;
  esac
}

ALL_STEPS=iperf3,perf-stat,perf-kvm-stat,virtiostat,kvmexit,perf-kvm-report,perf-script,trace-cmd
valid_steps() {
  case $1 in *[!a-z0-9,-]*) die 2 "--steps takes names with commas between, not $(q "$1")" ;; esac
  for step in $(echo "$1" | tr , ' '); do
    case ,$ALL_STEPS, in *",$step,"*) ;; *) die 2 "there is no step $step; the steps are $ALL_STEPS" ;; esac
  done
}

valid_number() {
  case $2 in '' | *[!0-9]* | 0*) die 2 "$1 takes a whole number from 1, not $(q "$2")" ;; esac
}

on_guest() { timeout 10 ssh "$GUEST" "$@" </dev/null 2>/dev/null; }

# ---- what this host has

TRACEFS=
find_tracefs() {
  for TRACEFS in /sys/kernel/tracing /sys/kernel/debug/tracing; do
    [ -e "$TRACEFS/tracing_on" ] && return 0
  done
  TRACEFS=
  return 1
}

# Programs of bcc have other names in Debian than in AGL.
find_bcc() {
  for bcc in "$1-bpfcc" "/usr/share/bcc/tools/$1" "/usr/sbin/$1-bpfcc"; do
    if have "$bcc"; then printf %s "$bcc"; return 0; fi
  done
  return 1
}

qemus() {
  for comm in /proc/[0-9]*/comm; do
    { read -r name <"$comm"; } 2>/dev/null || continue
    case $name in qemu-system* | qemu-kvm | kvm) pid=${comm#/proc/}; printf '%s\n' "${pid%/comm}" ;; esac
  done
}

cmdline() { tr '\0\n' '  ' <"/proc/$1/cmdline" 2>/dev/null; }

is_intel() { grep -q GenuineIntel /proc/cpuinfo 2>/dev/null; }

# ---- --check

todos=0 stops=0
fine() { printf 'fine: %s\n' "$1"; }
todo() { todos=$((todos + 1)); printf 'todo: %s\n' "$1"; }
stop() { stops=$((stops + 1)); todo "$1"; }

kernel_config() {
  if [ -r /proc/config.gz ]; then gzip -dc /proc/config.gz
  elif [ -r "/boot/config-$(uname -r)" ]; then cat "/boot/config-$(uname -r)"
  elif [ -r "/lib/modules/$(uname -r)/config" ]; then cat "/lib/modules/$(uname -r)/config"
  else return 1
  fi
}

FRAGMENT="local.conf: SRC_URI:append:pn-linux-yocto = \" file://trace.cfg\""

check_config() { # check_config OPTION VALUE WHAT-FOR
  case $CONFIG in
    *"
$1=y"* | *"
$1=m"*) fine "$1 ($3)" ;;
    *) todo "$1 is not set ($3): put $1=$2 into trace.cfg; $FRAGMENT" ;;
  esac
}

check_configs() {
  if ! CONFIG=$(kernel_config); then
    todo "kernel options: neither /proc/config.gz nor /boot/config-$(uname -r) can be read; modprobe configs, or build with CONFIG_IKCONFIG_PROC=y; $FRAGMENT"
    return
  fi
  CONFIG="
$CONFIG"
  check_config CONFIG_KVM y "virtual machines"
  check_config CONFIG_PERF_EVENTS y "perf"
  check_config CONFIG_KPROBES y "trace-cmd: the probe on tun_get_user"
  check_config CONFIG_KPROBE_EVENTS y "trace-cmd: the probe on tun_get_user"
  check_config CONFIG_FTRACE y "trace-cmd"
  check_config CONFIG_DYNAMIC_FTRACE y "trace-cmd: function filters"
  check_config CONFIG_FUNCTION_TRACER y "trace-cmd -p function"
  check_config CONFIG_FUNCTION_GRAPH_TRACER y "trace-cmd -p function_graph"
  check_config CONFIG_IRQSOFF_TRACER y "trace-cmd -p irqsoff"
  check_config CONFIG_PREEMPT_TRACER y "trace-cmd -p preemptoff; needs a preemptible kernel"
  check_config CONFIG_SCHED_TRACER y "trace-cmd -p wakeup"
  check_config CONFIG_FTRACE_SYSCALLS y "trace-cmd -e syscalls"
  check_config CONFIG_TRACER_SNAPSHOT y "trace-cmd snapshot"
  check_config CONFIG_PSTORE_FTRACE y "traces that survive a crash"
  check_config CONFIG_BPF y "bcc"
  check_config CONFIG_BPF_SYSCALL y "bcc"
  check_config CONFIG_BPF_JIT y "bcc"
  check_config CONFIG_BPF_EVENTS y "bcc"
  check_config CONFIG_TASKSTATS y "accounting per task"
  check_config CONFIG_SCHEDSTATS y "perf sched, latency of the scheduler"
  check_config CONFIG_STACKTRACE y "call chains of the kernel"
  check_config CONFIG_IKHEADERS m "bcc: kernel headers"
  check_config CONFIG_TUN m "tap devices"
  check_config CONFIG_VHOST_NET m "vhost-net"
}

check_tool() { # check_tool TOOL VERSION-COMMAND LOCAL.CONF-LINE
  if have "$1"; then fine "$1: $(eval "$2" 2>&1 | sed -n '/[0-9]/{p;q;}')"
  else todo "$1 is not installed: local.conf: $3"
  fi
}

PROFILE='IMAGE_FEATURES += "debug-tweaks tools-debug tools-profile"'
install_line() { printf 'IMAGE_INSTALL:append = " %s"' "$1"; }

check_host() {
  [ "$(id -u)" = 0 ] && fine "root" || stop "not root: run this as root; perf -a, kprobes and tracefs need it"
  [ -c /dev/kvm ] && fine "/dev/kvm" || stop "/dev/kvm is missing: load the module kvm, or turn virtualization on in the firmware"
  check_configs
  check_tool perf 'perf --version' "$PROFILE"
  check_tool trace-cmd 'trace-cmd --version' "$PROFILE"
  check_tool iperf3 'iperf3 --version' "$(install_line iperf3)"
  check_tool ssh 'ssh -V' 'IMAGE_FEATURES:append = " ssh-server-dropbear"'
  check_tool timeout 'timeout --version || timeout --help' "$(install_line coreutils)"
  check_tool setsid 'setsid --version || setsid --help' "$(install_line util-linux)"
  if bcc=$(find_bcc kvmexit); then
    is_intel && fine "kvmexit: $bcc" || fine "kvmexit: $bcc, but it supports Intel processors alone: its step is left out here"
  elif is_intel; then todo "kvmexit of bcc is not installed: local.conf: $(install_line bcc)"
  else fine "kvmexit of bcc is not needed: it supports Intel processors alone"
  fi
  if find_tracefs; then
    fine "tracefs: $TRACEFS"
    [ -d "$TRACEFS/events/kvm" ] && fine "events of kvm" || stop "no events of kvm: load the module kvm; the kernel needs CONFIG_KVM and CONFIG_FTRACE"
    if [ -e "$TRACEFS/kprobe_events" ]; then
      tun_symbol >/dev/null && fine "tun_get_user can be probed" || todo "tun_get_user is not in /proc/kallsyms: modprobe tun"
    else todo "kprobe_events is missing: put CONFIG_KPROBE_EVENTS=y into trace.cfg; $FRAGMENT"
    fi
    busy=$(tracing_in_use) && stop "tracing is in use ($busy): end it first: trace-cmd reset"
  else stop "tracefs is not mounted, or not to be read: mount -t tracefs nodev /sys/kernel/tracing"
  fi
  if [ -c /dev/vhost-net ] && { [ -d /sys/module/vhost_net ] || grep -q '^vhost_net ' /proc/modules 2>/dev/null; }; then fine "vhost_net is loaded"
  else todo "vhost_net is not loaded: modprobe vhost_net; local.conf: $(install_line kernel-module-vhost-net)"
  fi
  pids=$(qemus)
  [ -n "$pids" ] || stop "no QEMU runs: start the guest, with -netdev tap,...,vhost=on or vhost=off"
  for pid in $pids; do
    # The value is an argument of its own, which may hold blanks (tap,helper="qemu-bridge-helper --br=vmnet0") or be JSON (libvirt).
    nets=$(tr '\n\0' ' \n' <"/proc/$pid/cmdline" 2>/dev/null | sed -n '/^--*netdev$/{n;p;}')
    [ -n "$nets" ] || todo "QEMU $pid has no -netdev: start it with -netdev tap,...,vhost=on or vhost=off"
    # "while" reads from here, not from a pipe, so that what todo counts stays counted.
    while IFS= read -r net; do
      case $net in
        '') ;;
        vhost-* | *vhost=on* | *vhostforce=on* | *'"vhost":true'*) fine "QEMU $pid: -netdev $net: vhost" ;;
        tap | tap,* | bridge | bridge,* | *'"type":"tap"'*) fine "QEMU $pid: -netdev $net: standard virtio" ;;
        *) fine "QEMU $pid: -netdev $net: neither, since it is no tap" ;;
      esac
    done <<END
$nets
END
    if [ -r "/tmp/guestmount/$pid/proc/version" ]; then fine "guest file system: /tmp/guestmount/$pid"
    else todo "guest file system is not mounted (wanted for --guestmount alone): mkdir -p /tmp/guestmount/$pid; sshfs -o allow_other,direct_io ${GUEST:-GUEST}:/ /tmp/guestmount/$pid; local.conf: $(install_line sshfs-fuse)"
    fi
  done
  check_debuginfod
}

check_debuginfod() {
  if [ -z "${DEBUGINFOD_URLS:-}" ]; then
    todo "DEBUGINFOD_URLS is not set: run oe-debuginfod on the build machine, then export DEBUGINFOD_URLS=http://ITS-ADDRESS:8002; local.conf: DISTRO_FEATURES:append = \" debuginfod\""
    return
  fi
  for url in $DEBUGINFOD_URLS; do
    if have curl; then curl -s -o /dev/null -m 5 "$url/metrics"
    elif have wget; then wget -q -T 5 -O /dev/null "$url/metrics"
    else todo "debuginfod: neither curl nor wget is here to try $url"; continue
    fi && fine "debuginfod: $url" || todo "debuginfod: $url does not answer: start oe-debuginfod there, or correct DEBUGINFOD_URLS"
  done
}

check_guest() {
  if ! on_guest true; then
    stop "guest $GUEST does not answer to ssh within 10 s without asking: start it, put this host's key into its authorized_keys, and connect once by hand"
    return
  fi
  fine "guest $GUEST: $(on_guest uname -srm)"
  [ "$(on_guest id -u)" = 0 ] && fine "guest: root" || todo "guest: ssh does not log in as root, which perf -a and bcc need: use root@$GUEST"
  on_guest command -v iperf3 >/dev/null && fine "guest: iperf3" || stop "guest: iperf3 is not installed: local.conf: $(install_line iperf3)"
  on_guest command -v perf >/dev/null && fine "guest: perf" || todo "guest: perf is not installed: local.conf: $PROFILE"
  on_guest "$GUEST_VIRTIOSTAT" >/dev/null && fine "guest: virtiostat" || todo "guest: virtiostat of bcc is not installed: local.conf: $(install_line bcc)"
  on_guest 'grep -q "^0*[1-9a-f]" /proc/kallsyms' && fine "guest: kernel symbols" || todo "guest: the addresses in /proc/kallsyms are hidden: sysctl kernel.kptr_restrict=0 in the guest"
  [ -n "$(on_guest 'printf %s "${DEBUGINFOD_URLS:-}"')" ] && fine "guest: DEBUGINFOD_URLS is set" || todo "guest: DEBUGINFOD_URLS is not set: export it in the guest as on this host"
}

check() {
  check_host
  [ -n "$GUEST" ] && check_guest
  if [ "$todos" = 0 ]; then echo "all fine"; return 0; fi
  echo "$todos to do; $stops of them keep record.sh from recording"
  return 1
}

# Prints the path of virtiostat in the guest.
GUEST_VIRTIOSTAT='command -v virtiostat-bpfcc || { test -x /usr/share/bcc/tools/virtiostat && echo /usr/share/bcc/tools/virtiostat; }'

# ---- running, and writing down what was run

failed=0 child='' server='' guest_perf='' background=''

prompt() { printf 'root@%s:~# %s\n' "$1" "$2" >>commands.txt; }
remark() { printf '## %s\n' "$1"; [ "$DRY" = 1 ] || printf '## %s\n' "$1" >>commands.txt; }

# run TEXT: runs a line of shell on this host. In a session of its own, so that all of it can be ended on an interrupt, and in
# the background, so that the shell hears the interrupt while it waits.
run() {
  if [ "$DRY" = 1 ]; then printf '%s\n' "$1"; return 0; fi
  printf '%s\n' "$1"
  prompt host "$1"
  began=$(date +%s)
  setsid sh -c "$1" </dev/null &
  child=$!
  wait "$child"
  rc=$?
  child=
  printf '    (rc=%s, %s s)\n' "$rc" "$(($(date +%s) - began))" >>commands.txt
  [ "$rc" = 0 ] || { failed=$((failed + 1)); printf '    failed with exit code %s\n' "$rc" >&2; }
  return "$rc"
}

# start TEXT: the same, but goes on at once; finish ends what start began, as Ctrl-C does.
start() {
  printf '%s &\n' "$1"
  [ "$DRY" = 1 ] && return 0
  prompt host "$1 &"
  setsid sh -c "$1" </dev/null &
  background=$!
}
finish() {
  [ -n "$background" ] || return 0
  wait "$background"
  background=
}

end_group() { # INT as from a keyboard, then what cannot be refused
  kill -INT -"$1" 2>/dev/null || kill -INT "$1" 2>/dev/null || return 0
  for _ in 1 2 3 4 5 6; do
    kill -0 -"$1" 2>/dev/null || return 0
    sleep 0.5 2>/dev/null || sleep 1
  done
  kill -TERM -"$1" 2>/dev/null
  sleep 1
  kill -KILL -"$1" 2>/dev/null
}

left_out() { remark "left out: $1: $2"; LEFT="$LEFT
  $1: $2"; }

# need STEP TOOL: whether a step's tool is there; a dry run prints the steps of a host that has all.
need() {
  [ "$DRY" = 1 ] && return 0
  have "$2" && return 0
  left_out "$1" "$2 is not installed on this host"
  return 1
}
need_on_guest() {
  [ "$DRY" = 1 ] && return 0
  on_guest command -v "$2" >/dev/null && return 0
  left_out "$1" "$2 is not installed in the guest"
  return 1
}
need_kvm_events() {
  [ "$DRY" = 1 ] && return 0
  [ -d "$TRACEFS/events/kvm" ] && return 0
  left_out "$1" "this kernel has no events of kvm"
  return 1
}

# ---- tracing: what was there before is there again afterwards, also after an interrupt

PROBE=kp_tun_get_user
probed=0 touched=0 tracing_on='' buffer_kb=''

# The compiler may have given it a suffix, such as .constprop.0.
tun_symbol() { awk '$3 == "tun_get_user" || index($3, "tun_get_user.") == 1 { print $3; found = 1; exit } END { exit !found }' /proc/kallsyms; }

tracing_in_use() {
  [ -n "$(cat "$TRACEFS/set_event" 2>/dev/null)" ] && { echo "events are on"; return 0; }
  tracer=$(cat "$TRACEFS/current_tracer" 2>/dev/null)
  [ -n "$tracer" ] && [ "$tracer" != nop ] && { echo "tracer $tracer"; return 0; }
  grep -q "[:/]$PROBE " "$TRACEFS/kprobe_events" 2>/dev/null && { echo "a probe $PROBE is there"; return 0; }
  return 1
}

tracing_begin() {
  tracing_on=$(cat "$TRACEFS/tracing_on")
  # "7 (expanded: 1408)" until it is first used
  buffer_kb=$(sed -n 's/.*expanded: \([0-9]*\).*/\1/p; s/^\([0-9]*\)$/\1/p' "$TRACEFS/buffer_size_kb" | head -n 1)
  touched=1
}

tracing_end() {
  [ "$touched" = 1 ] || return 0
  echo 0 >"$TRACEFS/tracing_on"
  echo >"$TRACEFS/set_event"
  echo nop >"$TRACEFS/current_tracer"
  if [ "$probed" = 1 ]; then echo "-:$PROBE" >>"$TRACEFS/kprobe_events"; probed=0; fi
  echo >"$TRACEFS/trace"
  [ -n "$buffer_kb" ] && echo "$buffer_kb" >"$TRACEFS/buffer_size_kb"
  echo "$tracing_on" >"$TRACEFS/tracing_on"
  touched=0
} 2>/dev/null

stop_guest_perf() {
  [ -n "$guest_perf" ] || return 0
  on_guest "kill -INT \$(cat $guest_perf.pid)"
}

cleanup() {
  rc=$?
  trap '' INT TERM HUP PIPE
  trap - EXIT
  [ -n "$child" ] && end_group "$child"
  stop_guest_perf
  [ -n "$background" ] && end_group "$background"
  [ -n "$guest_perf" ] && on_guest "rm -f $guest_perf $guest_perf.pid"
  [ -n "$server" ] && kill "$server" 2>/dev/null
  tracing_end
  exit "$rc"
}

interrupted() {
  # Whoever read our output may be gone; to write to it must not end us before cleanup.
  trap '' INT TERM HUP PIPE
  printf 'record.sh: interrupted; tracing is put back as it was\n' 2>/dev/null >&2
  printf '## interrupted\n' >>commands.txt
  exit "$1"
}

# ---- the steps

# load OPTIONS: the command that makes the traffic, as text
load() {
  if [ -n "$WORKLOAD" ]; then printf %s "$WORKLOAD"; else printf 'ssh %s iperf3 -c %s %s' "$GUEST" "$ADDRESS" "$1"; fi
}

threads() {
  printf '%7s %7s %-15s %s\n' PID TID COMMAND COMMAND
  for task in /proc/[0-9]*/task/[0-9]*; do
    { read -r name <"$task/comm"; } 2>/dev/null || continue
    pid=${task#/proc/} pid=${pid%%/*}
    [ "$pid" = "${of:-}" ] || { of=$pid; args=$(cmdline "$pid"); }
    printf '%7s %7s %-15s %s\n' "$pid" "${task##*/}" "$name" "${args:-[$name]}"
  done
}

environment() {
  echo "== uname"; uname -a
  echo "== cmdline"; cat /proc/cmdline
  echo "== lscpu"; if have lscpu; then lscpu; else cat /proc/cpuinfo; fi
  for pid in $(qemus); do echo "== qemu command line"; cmdline "$pid"; echo; done
  echo "== versions"
  for pid in $(qemus); do "/proc/$pid/exe" --version 2>/dev/null | head -n 1; done
  for tool in 'perf --version' 'trace-cmd --version' 'iperf3 --version'; do $tool 2>&1 | sed -n '/[0-9]/{p;q;}'; done
  echo "== host threads"; threads
  echo "== guest"
  on_guest 'uname -a; cat /proc/cmdline; lscpu 2>/dev/null || cat /proc/cpuinfo; perf --version; ip addr 2>/dev/null || ifconfig -a'
  echo "== host net"; ip addr 2>/dev/null || ifconfig -a
}

step_environment() {
  remark "environment"
  [ "$DRY" = 1 ] || environment >environment.txt 2>/dev/null
}

step_iperf3() {
  if [ -n "$WORKLOAD" ]; then left_out iperf3 "the workload is your own"; return 0; fi
  need_on_guest iperf3 iperf3 || return 0
  run "$(load "-t $SECONDS_EACH -i 1") > iperf3.txt"
  run "$(load "-t $SECONDS_EACH -i 1 -J") > iperf3.json"
  i=0
  while [ $((i += 1)) -le "$REPEATS" ]; do run "$(load "-t $SECONDS_EACH -J") > iperf3-run$i.json"; done
}

step_perf_stat() {
  need perf-stat perf && need_kvm_events perf-stat || return 0
  w=$(load "-n 100M")
  run "perf stat -e 'kvm:*' -a -- $w > perf-stat.iperf3.txt 2> perf-stat.txt"
  run "perf stat -x, -e 'kvm:*' -a -- $w > /dev/null 2> perf-stat.csv"
  run "perf stat -j -e 'kvm:*' -a -- $w > /dev/null 2> perf-stat.json"
  i=0
  while [ $((i += 1)) -le "$REPEATS" ]; do run "perf stat -e 'kvm:*' -a -- $w > /dev/null 2> perf-stat-run$i.txt"; done
}

step_perf_kvm_stat() {
  need perf-kvm-stat perf && need_kvm_events perf-kvm-stat || return 0
  run "perf kvm stat record -a -o perf.data.guest -- $(load "-n 500M") > perf-kvm-stat.record.txt 2>&1" &&
    run "perf kvm -i perf.data.guest stat report --event=vmexit > perf-kvm-stat.txt 2>&1"
}

step_virtiostat() {
  if [ "$DRY" = 1 ]; then tool=virtiostat; else tool=$(on_guest "$GUEST_VIRTIOSTAT"); fi
  if [ -z "$tool" ]; then left_out virtiostat "virtiostat of bcc is not installed in the guest"; return 0; fi
  # It needs seconds to compile its program, so it runs longer than the traffic.
  start "ssh $GUEST $tool 1 $((SECONDS_EACH + 10)) > virtiostat.txt 2> virtiostat.stderr"
  run "sleep 5; $(load "-t $SECONDS_EACH") > virtiostat.iperf3.txt"
  finish
}

step_kvmexit() {
  if [ "$DRY" = 1 ]; then tool=kvmexit
  elif ! is_intel; then left_out kvmexit "it supports Intel processors alone"; return 0
  elif ! tool=$(find_bcc kvmexit); then left_out kvmexit "kvmexit of bcc is not installed on this host"; return 0
  fi
  start "$tool $((SECONDS_EACH + 5)) > kvmexit.txt 2> kvmexit.stderr"
  run "sleep 5; $(load "-t $SECONDS_EACH") > /dev/null"
  finish
}

step_perf_kvm_report() {
  need perf-kvm-report perf || return 0
  if [ -n "$GUESTMOUNT" ]; then symbols="--guestmount=$(q "$GUESTMOUNT")"
  else
    symbols="--guestkallsyms=guest.kallsyms --guestmodules=guest.modules"
    run "ssh $GUEST cat /proc/kallsyms > guest.kallsyms"
    run "ssh $GUEST 'cat /proc/modules || true' > guest.modules 2> /dev/null"
  fi
  kvm="perf kvm --host --guest $symbols"
  run "$kvm record -F99 -a -o perf.data.kvm -- $(load "-b 100M -t $SECONDS_EACH") > perf-kvm-report.record.txt 2>&1" || return 0
  run "$kvm -i perf.data.kvm report --stdio --show-cpu-utilization > perf-kvm-report.txt 2> perf-kvm-report.stderr"
  run "$kvm -i perf.data.kvm report --stdio --show-cpu-utilization --sort=comm > perf-kvm-report-comm.txt 2> perf-kvm-report-comm.stderr"
}

step_perf_script() {
  need perf-script perf || return 0
  w=$(load "-t $SECONDS_EACH")
  if need_on_guest perf-script-guest perf; then
    if [ "$DRY" = 1 ]; then guest_perf=/tmp/perf.data.record
    else guest_perf=$(on_guest 'mktemp /tmp/perf.data.XXXXXX')
    fi
    case $guest_perf in /tmp/perf.data.*) ;; *) left_out perf-script-guest "no file can be made in the guest's /tmp"; guest_perf= ;; esac
  fi
  if [ -n "$guest_perf" ]; then
    start "ssh $GUEST 'echo \$\$ > $guest_perf.pid; exec perf record -a -g -F99 -o $guest_perf' > perf-record-guest.txt 2>&1"
    [ "$DRY" = 1 ] || sleep 1
  fi
  run "perf record -a -g -F99 -o perf.data.host -- $w > perf-record.txt 2>&1"
  if [ -n "$guest_perf" ]; then
    if [ "$DRY" = 1 ]; then printf '%s\n' "ssh $GUEST 'kill -INT \$(cat $guest_perf.pid)'"
    else stop_guest_perf || end_group "$background"
    fi
    finish
  fi
  run "perf script -i perf.data.host > perf-script-host.txt 2> perf-script-host.stderr"
  # With any folder perf script prints the samples in guest mode, too; here one without guests in it. The header says whether guests were counted.
  run "perf script --header --guestmount=. -i perf.data.host > perf-script-host-guestmount.txt 2> perf-script-host-guestmount.stderr"
  if [ -n "$guest_perf" ]; then
    run "ssh $GUEST perf script -i $guest_perf > perf-script-guest.txt 2> perf-script-guest.stderr"
    [ "$DRY" = 1 ] || on_guest "rm -f $guest_perf $guest_perf.pid"
    guest_perf=
  fi
}

step_trace_cmd() {
  need trace-cmd trace-cmd || return 0
  events=
  for system in kvm sched; do
    if [ "$DRY" = 1 ] || [ -d "$TRACEFS/events/$system" ]; then events="$events -e $system"; else left_out "trace-cmd -e $system" "this kernel has no such events"; fi
  done
  if [ "$DRY" = 1 ]; then
    echo "echo 'p:$PROBE tun_get_user' >> /sys/kernel/tracing/kprobe_events"
    events="$events -e kprobes:$PROBE"
  else
    tracing_begin
    if [ ! -e "$TRACEFS/kprobe_events" ]; then left_out "trace-cmd -e kprobes:$PROBE" "this kernel has no kprobes"
    elif ! symbol=$(tun_symbol); then left_out "trace-cmd -e kprobes:$PROBE" "tun_get_user is not in /proc/kallsyms (modprobe tun)"
    else
      probed=1
      if run "echo 'p:$PROBE $symbol' >> $TRACEFS/kprobe_events"; then events="$events -e kprobes:$PROBE"; else probed=0; fi
    fi
  fi
  if run "trace-cmd record -o trace.dat -b 40000$events -- $(load "-n 30M") > trace-cmd.record.txt 2>&1"; then
    run "trace-cmd report -i trace.dat > trace-cmd.txt 2> trace-cmd.stderr"
    run "trace-cmd report -t -i trace.dat > trace-cmd.nsec.txt 2> /dev/null"
  fi
  if [ "$DRY" = 1 ]; then echo "echo '-:$PROBE' >> /sys/kernel/tracing/kprobe_events"; else tracing_end; fi
}

# Port 5201 (0x1451) is taken by a listening socket (state 0A).
iperf3_listens() { cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -q ':1451 [0-9A-F]*:0000 0A '; }

prepare() {
  problems=
  problem() { problems="$problems
  $1"; }
  [ "$(id -u)" = 0 ] || problem "run it as root"
  find_tracefs || problem "mount tracefs: mount -t tracefs nodev /sys/kernel/tracing"
  [ -c /dev/kvm ] || problem "/dev/kvm is missing: load the module kvm"
  for tool in ssh timeout setsid; do have "$tool" || problem "install $tool"; done
  on_guest true || problem "make guest $GUEST answer to ssh within 10 s without asking"
  if [ -n "$TRACEFS" ]; then busy=$(tracing_in_use) && problem "tracing is in use ($busy): end it first: trace-cmd reset"; fi
  if [ -z "$WORKLOAD" ]; then
    have iperf3 || problem "install iperf3, or name a workload of your own after --"
    [ -n "$ADDRESS" ] || ADDRESS=$(on_guest 'set -- ${SSH_CONNECTION:-}; echo ${1:-}')
    case $ADDRESS in '' | *[!0-9A-Za-z.:%-]*) problem "name this host's address as the guest sees it: --address ADDRESS" ;; esac
  fi
  [ -z "$problems" ] || die 1 "cannot record:$problems
record.sh --check $GUEST tells more"
}

record() {
  LEFT=
  if [ "$DRY" = 1 ]; then
    [ -n "$ADDRESS" ] || ADDRESS='ADDRESS-OF-THIS-HOST'
    printf '# a dry run: the steps of a host that has every tool\ncd %s\n' "$(q "$DIR")"
  else
    prepare
    mkdir -p -- "$DIR" || die 1 "cannot make the folder $(q "$DIR")"
    [ -z "$(ls -A -- "$DIR")" ] || die 1 "$(q "$DIR") is not empty; name a new folder"
    cd -- "$DIR" || die 1 "cannot enter $(q "$DIR")"
    trap cleanup EXIT
    trap 'interrupted 130' INT
    trap 'interrupted 143' TERM
    trap 'interrupted 129' HUP
    trap 'interrupted 141' PIPE
    : >commands.txt
    if [ -z "$WORKLOAD" ] && ! iperf3_listens; then
      iperf3 -s >/dev/null 2>&1 &
      server=$!
      sleep 1
    fi
  fi
  step_environment
  for step in $(echo "$STEPS" | tr , ' '); do "step_$(echo "$step" | tr - _)"; done
  [ "$DRY" = 1 ] && return 0
  [ -z "$LEFT" ] || printf 'left out:%s\n' "$LEFT"
  if [ "$failed" -gt 0 ]; then printf '%s commands failed: see commands.txt in %s\n' "$failed" "$(q "$DIR")"; return 1; fi
  printf 'recorded into %s\n' "$(q "$DIR")"
}

# ---- command line

GUEST='' DIR='' WORKLOAD='' ADDRESS='' GUESTMOUNT='' DRY=0 REPEATS=3 SECONDS_EACH=10 CHECK=0 STEPS=$ALL_STEPS
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) usage; exit 0 ;;
    --check) CHECK=1 ;;
    --dry-run) DRY=1 ;;
    --address | --steps | --repeats | --seconds | --guestmount)
      [ $# -gt 1 ] || die 2 "$1 takes a value"
      case $1 in
        --address) ADDRESS=$2 ;;
        --steps) valid_steps "$2"; STEPS=$2 ;;
        --repeats) valid_number "$1" "$2"; REPEATS=$2 ;;
        --seconds) valid_number "$1" "$2"; SECONDS_EACH=$2 ;;
        --guestmount) case $2 in /*) GUESTMOUNT=$2 ;; *) die 2 "--guestmount takes a path from /, not $(q "$2")" ;; esac ;;
      esac
      shift ;;
    --) shift; break ;;
    -*) die 2 "unknown option $(q "$1"); record.sh --help lists them" ;;
    *)
      if [ -z "$GUEST" ]; then valid_guest "$1"; GUEST=$1
      elif [ -z "$DIR" ]; then DIR=$1
      else die 2 "more than GUEST and DIR; a workload stands after --"
      fi ;;
  esac
  shift
done
for word in "$@"; do WORKLOAD="$WORKLOAD${WORKLOAD:+ }$(q "$word")"; done

if [ "$CHECK" = 1 ]; then
  [ -z "$DIR$WORKLOAD" ] || die 2 "--check takes a GUEST alone"
  check
  exit
fi
if [ -z "$GUEST" ] || [ -z "$DIR" ]; then usage >&2; exit 2; fi
record
