# One job of a fault test: `bash job.sh FOLDER NAME SECONDS [LINGER]`; told to end it takes LINGER seconds.
#
# Appends "NAME ATTEMPT PID start|end|overlap TIME" to FOLDER/journal, each line in one write to a file
# opened for appending, so that hundreds of jobs at once do not tear each other's lines.
LC_ALL=C
folder=$1 name=$2 seconds=$3 linger=${4-}

note() {
  printf '%s %s %s %s %s\n' "$name" "$LADING_ATTEMPT" "$$" "$1" "$EPOCHREALTIME" >> "$folder/journal"
}

# First the own mark, then a look at the others': of two attempts alive at once at least one sees the other.
: > "$folder/alive/$name.$$"
for mark in "$folder/alive/$name".*; do
  pid=${mark##*.}
  if [[ $pid != "$$" ]]; then
    words=()
    { mapfile -d '' -t words < "/proc/$pid/cmdline"; } 2> /dev/null
    # The process id may have been given to another job since; a zombie's command line is empty.
    [[ ${words[3]-} == "$name" ]] && note overlap
  fi
done

[[ -n ${4-} ]] && trap 'sleep "$linger"; exit 143' TERM

note start
sleep "$seconds"
note end
