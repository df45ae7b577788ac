# Runs the command that the arguments are. Fails if the kernel complained in its log meanwhile, and shows the complaint.
dmesg --clear
"$@"
code=$?
log=$(dmesg)
complaints='WARNING:|BUG:|kernel BUG|Oops|general protection fault|bad offload|recursion limit|hung_task|blocked for more than'
if printf '%s\n' "$log" | grep -q -E "$complaints"; then
    echo "the kernel complained:"
    printf '%s\n' "$log" | grep -A 30 -E "$complaints" | head -n 200
    exit 97
fi
exit $code
