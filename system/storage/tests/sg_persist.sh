#!/bin/sh
# A simulated sg_persist: persistent reservations by the rules of SPC-4 5.9 for one logical unit, kept in the file $ARRAY. $NEXUS is the
# path over which the command comes. Lines of the file: `gen N`, `reg NEXUS KEY`, `res NEXUS KEY TYPE`, `attention NEXUS`.
export LC_ALL=C
if [ -z "$LOCKED" ]; then
    # The unit carries out one command after the other.
    LOCKED=1 exec flock "$ARRAY.lock" "$0" "$@"
fi
rk=0 sark=0 type=0 action=
for arg; do
    case $arg in
        --in|--out|--param-aptpl|/*) ;;
        --param-rk=0x*) rk=${arg#*=0x} ;;
        --param-sark=0x*) sark=${arg#*=0x} ;;
        --prout-type=*) type=${arg#*=} ;;
        --*) action=${arg#--} ;;
    esac
done
conflict() { echo "PR out: Reservation conflict" >&2; exit 24; }
[ ! -f "$ARRAY.broken" ] || { echo "PR in: Illegal request, Invalid opcode" >&2; exit 9; }
if grep -q "^attention $NEXUS$" "$ARRAY"; then
    # SPC-4 5.14: told once, with the next command, which is not carried out.
    sed -i "/^attention $NEXUS$/d" "$ARRAY"
    echo "PR: Unit attention, Registrations preempted" >&2
    exit 6
fi
mine=$(sed -n "s/^reg $NEXUS //p" "$ARRAY")
generation() { n=$(sed -n 's/^gen //p' "$ARRAY"); sed -i '/^gen /d' "$ARRAY"; echo "gen $((n + 1))" >> "$ARRAY"; }
# Registrants Only: released when its holder's registration goes.
gone() { sed -i "/^reg $1 /d; /^res $1 /d" "$ARRAY"; }
n=$(sed -n 's/^gen //p' "$ARRAY")
printf '  TWINPOST  simulated disk    1.0 \n  Peripheral device type: disk\n'
case $action in
    read-keys)
        count=$(grep -c '^reg ' "$ARRAY")
        if [ "$count" = 0 ]; then printf '  PR generation=0x%x, there are NO registered reservation keys\n' "$n"; exit 0; fi
        printf '  PR generation=0x%x, %d registered reservation key%s:\n' "$n" "$count" "$([ "$count" = 1 ] && echo ' follows' || echo 's follow')"
        sed -n 's/^reg [^ ]* /    0x/p' "$ARRAY" ;;
    read-reservation)
        key=$(sed -n 's/^res [^ ]* \([^ ]*\) .*/\1/p' "$ARRAY")
        if [ -z "$key" ]; then printf '  PR generation=0x%x, there is NO reservation held\n' "$n"; exit 0; fi
        printf '  PR generation=0x%x, Reservation follows:\n    Key=0x%s\n    scope: LU_SCOPE,  type: Write Exclusive, registrants only\n' "$n" "$key" ;;
    register|register-ignore)
        # SPC-4 5.9.7: REGISTER wants the registered key (0 for none), REGISTER AND IGNORE EXISTING KEY does not.
        [ $action = register-ignore ] || [ "${mine:-0}" = "$rk" ] || conflict
        if [ "$sark" = 0 ]; then gone "$NEXUS"; else
            sed -i "/^reg $NEXUS /d; s/^res $NEXUS [^ ]*/res $NEXUS $sark/" "$ARRAY"
            echo "reg $NEXUS $sark" >> "$ARRAY"
        fi
        generation ;;
    reserve)
        # SPC-4 5.9.9
        [ -n "$mine" ] && [ "$mine" = "$rk" ] || conflict
        held=$(sed -n 's/^res \([^ ]*\) .*/\1/p' "$ARRAY")
        [ -z "$held" ] || [ "$held" = "$NEXUS" ] || conflict
        [ -n "$held" ] || echo "res $NEXUS $rk $type" >> "$ARRAY" ;;
    release)
        # SPC-4 5.9.11.2: by a registrant that does not hold it: nothing happens.
        [ -n "$mine" ] && [ "$mine" = "$rk" ] || conflict
        sed -i "/^res $NEXUS /d" "$ARRAY" ;;
    preempt|preempt-abort)
        # SPC-4 5.9.11.4
        [ -n "$mine" ] && [ "$mine" = "$rk" ] || conflict
        grep -q "^reg [^ ]* $sark$" "$ARRAY" || conflict
        held=$(sed -n 's/^res [^ ]* \([^ ]*\) .*/\1/p' "$ARRAY")
        for other in $(sed -n "s/^reg \([^ ]*\) $sark$/\1/p" "$ARRAY"); do
            gone "$other"
            [ "$other" = "$NEXUS" ] || echo "attention $other" >> "$ARRAY"
        done
        [ "$held" != "$sark" ] || echo "res $NEXUS $rk $type" >> "$ARRAY"
        generation ;;
    *) echo "unknown: $*" >&2; exit 1 ;;
esac
