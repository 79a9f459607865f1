package ansible_rulebook_ha;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

import org.drools.core.common.InternalFactHandle;
import org.drools.core.reteoo.LeftTuple;
import org.drools.core.reteoo.RightTuple;
import org.drools.core.reteoo.TupleImpl;

/**
 * The events that wait for the end of a not_all's window.
 *
 * <p>Once it ends, the next window begins with one of them. Drools keeps them
 * in the order in which they were found, and finds them in reverse each time:
 * one window begins with the oldest event, the next with the youngest. That
 * cannot be restored, so they are put in order, and the oldest is the next.
 */
final class Waiting {

    private static final Comparator<LeftTuple> BY_AGE =
        Comparator.comparingLong(tuple -> tuple.getFactHandle().getId());

    private Waiting() { }

    /** Puts in order what one of the engine's own events keeps waiting. */
    static void order(InternalFactHandle control) {
        control.forEachRightTuple(Waiting::order);
    }

    private static void order(TupleImpl tuple) {
        if (!(tuple instanceof RightTuple control)) {
            return;
        }
        List<LeftTuple> waiting = new ArrayList<>();
        for (LeftTuple each = control.getBlocked(); each != null;
                each = each.getBlockedNext()) {
            waiting.add(each);
        }
        if (waiting.size() < 2) {
            return;
        }
        waiting.sort(BY_AGE);
        for (LeftTuple each : waiting) {
            control.removeBlocked(each);
            each.setBlocker(control);
            control.addBlocked(each); // before the others
        }
    }
}
