"""The native entry as LLVM IR; names ending in _AT stand for offsets in the structs of NumPy and Python."""

IR = """
@ng_array_type = external global i8
@ng_type_error = external global i8
@ng_no_plan = private constant [42 x i8] c"entry() needs the address of a plan block\\00"
@ng_no_array = private constant [37 x i8] c"data_address() needs a numpy.ndarray\\00"

declare i64 @ng_run(ptr, i64)
declare i64 @PyLong_AsLongLong(ptr)
declare ptr @PyLong_FromLongLong(i64)
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
declare void @PyErr_SetString(ptr, ptr)
declare i32 @PyType_IsSubtype(ptr, ptr)
declare ptr @PyTuple_New(i64)
declare i32 @PyTuple_SetItem(ptr, i64, ptr)
declare void @Py_IncRef(ptr)
declare void @Py_DecRef(ptr)
declare ptr @ng_array_empty(i32, ptr, ptr, i32)

define ptr @ng_data_address(ptr %self, ptr %object) nounwind {
  %type.at = getelementptr i8, ptr %object, i64 TYPE_AT
  %type = load ptr, ptr %type.at
  %exact = icmp eq ptr %type, @ng_array_type
  br i1 %exact, label %array, label %related
related:
  %sub = call i32 @PyType_IsSubtype(ptr %type, ptr @ng_array_type)
  %is = icmp ne i32 %sub, 0
  br i1 %is, label %array, label %other
array:
  %data.at = getelementptr i8, ptr %object, i64 DATA_AT
  %data = load i64, ptr %data.at
  %result = call ptr @PyLong_FromLongLong(i64 %data)
  ret ptr %result
other:
  call void @PyErr_SetString(ptr @ng_type_error, ptr @ng_no_array)
  ret ptr null
}

; Whether the arrays are what the records want.
define internal i1 @fits(ptr %arrays, ptr %records, i64 %count) alwaysinline nounwind {
entry:
  %none = icmp eq i64 %count, 0
  br i1 %none, label %yes, label %check
check:
  %i = phi i64 [0, %entry], [%i.next, %checked]
  %array.at = getelementptr ptr, ptr %arrays, i64 %i
  %array = load ptr, ptr %array.at
  %record.words = mul i64 %i, 6
  %record = getelementptr i64, ptr %records, i64 %record.words
  %type.at = getelementptr i8, ptr %array, i64 TYPE_AT
  %type = load ptr, ptr %type.at
  %is.array = icmp eq ptr %type, @ng_array_type
  br i1 %is.array, label %check.descr, label %no
check.descr:
  %descr.at = getelementptr i8, ptr %array, i64 DESCR_AT
  %descr = load i64, ptr %descr.at
  %want.descr = load i64, ptr %record
  %same.descr = icmp eq i64 %descr, %want.descr
  br i1 %same.descr, label %check.flags, label %no
check.flags:
  %flags.at = getelementptr i8, ptr %array, i64 FLAGS_AT
  %flags = load i32, ptr %flags.at
  %want.flags.at = getelementptr i64, ptr %record, i64 1
  %want.flags = load i32, ptr %want.flags.at
  %common = and i32 %flags, %want.flags
  %has.flags = icmp eq i32 %common, %want.flags
  br i1 %has.flags, label %check.ndim, label %no
check.ndim:
  %ndim.at = getelementptr i8, ptr %array, i64 NDIM_AT
  %ndim = load i32, ptr %ndim.at
  %want.ndim.at = getelementptr i64, ptr %record, i64 2
  %want.ndim = load i32, ptr %want.ndim.at
  %same.ndim = icmp eq i32 %ndim, %want.ndim
  br i1 %same.ndim, label %dims, label %no
dims:
  %dims.at = getelementptr i8, ptr %array, i64 DIMS_AT
  %shape = load ptr, ptr %dims.at
  %want.dims.at = getelementptr i64, ptr %record, i64 3
  %want.shape = load ptr, ptr %want.dims.at
  %n = zext i32 %ndim to i64
  br label %dim
dim:
  %d = phi i64 [0, %dims], [%d.next, %dim.same]
  %all = icmp eq i64 %d, %n
  br i1 %all, label %checked, label %dim.compare
dim.compare:
  %length.at = getelementptr i64, ptr %shape, i64 %d
  %length = load i64, ptr %length.at
  %want.length.at = getelementptr i64, ptr %want.shape, i64 %d
  %want.length = load i64, ptr %want.length.at
  %same.length = icmp eq i64 %length, %want.length
  br i1 %same.length, label %dim.same, label %no
dim.same:
  %d.next = add i64 %d, 1
  br label %dim
checked:
  %i.next = add i64 %i, 1
  %unchecked = icmp ult i64 %i.next, %count
  br i1 %unchecked, label %check, label %yes
yes:
  ret i1 true
no:
  ret i1 false
}

; Write the addresses of the arrays to the slots that the records name.
define internal void @point(ptr %arrays, ptr %records, i64 %count) alwaysinline nounwind {
entry:
  %none = icmp eq i64 %count, 0
  br i1 %none, label %done, label %store
store:
  %j = phi i64 [0, %entry], [%j.next, %stored]
  %array.at = getelementptr ptr, ptr %arrays, i64 %j
  %array = load ptr, ptr %array.at
  %data.at = getelementptr i8, ptr %array, i64 DATA_AT
  %data = load i64, ptr %data.at
  %words = mul i64 %j, 6
  %from = getelementptr i64, ptr %records, i64 %words
  %slot.count.at = getelementptr i64, ptr %from, i64 4
  %slot.count = load i64, ptr %slot.count.at
  %slots.at = getelementptr i64, ptr %from, i64 5
  %slots = load ptr, ptr %slots.at
  br label %slot
slot:
  %s = phi i64 [0, %store], [%s.next, %slot.store]
  %full = icmp eq i64 %s, %slot.count
  br i1 %full, label %stored, label %slot.store
slot.store:
  %target.at = getelementptr ptr, ptr %slots, i64 %s
  %target = load ptr, ptr %target.at
  store i64 %data, ptr %target
  %s.next = add i64 %s, 1
  br label %slot
stored:
  %j.next = add i64 %j, 1
  %unstored = icmp ult i64 %j.next, %count
  br i1 %unstored, label %store, label %done
done:
  ret void
}

; Run a block's program: 1, or 2 if a kernel set the status word.
define internal i64 @go(ptr %block) alwaysinline nounwind {
entry:
  %program.at = getelementptr i64, ptr %block, i64 1
  %program = load ptr, ptr %program.at
  %steps.at = getelementptr i64, ptr %block, i64 2
  %steps = load i64, ptr %steps.at
  %status.at = getelementptr i64, ptr %block, i64 3
  %status.word = load ptr, ptr %status.at
  store i64 0, ptr %status.word
  %busy.at = getelementptr i64, ptr %block, i64 5
  %done.at = getelementptr i64, ptr %block, i64 6
  %release.at = getelementptr i64, ptr %block, i64 4
  %release = load i64, ptr %release.at
  %keep = icmp eq i64 %release, 0
  br i1 %keep, label %holding, label %released
holding:
  %done1 = call i64 @ng_run(ptr %program, i64 %steps)
  store i64 %done1, ptr %done.at
  br label %finish
released:
  store i64 1, ptr %busy.at
  %thread = call ptr @PyEval_SaveThread()
  %done2 = call i64 @ng_run(ptr %program, i64 %steps)
  store i64 %done2, ptr %done.at
  call void @PyEval_RestoreThread(ptr %thread)
  store i64 0, ptr %busy.at
  br label %finish
finish:
  %status = load i64, ptr %status.word
  %clean = icmp eq i64 %status, 0
  %verdict = select i1 %clean, i64 1, i64 2
  ret i64 %verdict
}

define ptr @ng_entry(ptr %self, ptr %args, i64 %given) nounwind {
entry:
  %some = icmp sgt i64 %given, 0
  br i1 %some, label %address, label %no.plan
no.plan:
  call void @PyErr_SetString(ptr @ng_type_error, ptr @ng_no_plan)
  ret ptr null
address:
  %first = load ptr, ptr %args
  %where = call i64 @PyLong_AsLongLong(ptr %first)
  %failed = icmp eq i64 %where, -1
  br i1 %failed, label %raise, label %plan
raise:
  ret ptr null
plan:
  %block = inttoptr i64 %where to ptr
  %count = load i64, ptr %block
  %expected = add i64 %count, 1
  %complete = icmp eq i64 %given, %expected
  br i1 %complete, label %free, label %answer
free:
  %busy.at = getelementptr i64, ptr %block, i64 5
  %busy = load i64, ptr %busy.at
  %idle = icmp eq i64 %busy, 0
  br i1 %idle, label %begin, label %answer
begin:
  %records.at = getelementptr i64, ptr %block, i64 7
  %records = load ptr, ptr %records.at
  %arrays = getelementptr ptr, ptr %args, i64 1
  %fit = call i1 @fits(ptr %arrays, ptr %records, i64 %count)
  br i1 %fit, label %run, label %answer
run:
  call void @point(ptr %arrays, ptr %records, i64 %count)
  %verdict = call i64 @go(ptr %block)
  br label %answer
answer:
  %code = phi i64 [0, %plan], [3, %free], [0, %begin], [%verdict, %run]
  %result = call ptr @PyLong_FromLongLong(i64 %code)
  ret ptr %result
}

; self is a tuple that begins with the block's address; the arguments are the inputs' arrays.
define ptr @ng_call(ptr %self, ptr %args, i64 %given) nounwind {
entry:
  %first.at = getelementptr i8, ptr %self, i64 ITEMS_AT
  %first = load ptr, ptr %first.at
  %where = call i64 @PyLong_AsLongLong(ptr %first)
  %block = inttoptr i64 %where to ptr
  %inputs.at = getelementptr i64, ptr %block, i64 8
  %inputs = load i64, ptr %inputs.at
  %complete = icmp eq i64 %given, %inputs
  br i1 %complete, label %look, label %answer
look:
  %records.at = getelementptr i64, ptr %block, i64 7
  %records = load ptr, ptr %records.at
  %fit = call i1 @fits(ptr %args, ptr %records, i64 %inputs)
  br i1 %fit, label %allocate, label %answer
allocate:
  %count = load i64, ptr %block
  %outputs = sub i64 %count, %inputs
  %words = mul i64 %inputs, 6
  %made.records = getelementptr i64, ptr %records, i64 %words
  %tuple = call ptr @PyTuple_New(i64 %outputs)
  %no.tuple = icmp eq ptr %tuple, null
  br i1 %no.tuple, label %raise, label %some
raise:
  ret ptr null
some:
  %none = icmp eq i64 %outputs, 0
  br i1 %none, label %free, label %output
output:
  %j = phi i64 [0, %some], [%j.next, %made]
  %words.j = mul i64 %j, 6
  %record = getelementptr i64, ptr %made.records, i64 %words.j
  %descr = load ptr, ptr %record
  %ndim.at = getelementptr i64, ptr %record, i64 2
  %ndim = load i32, ptr %ndim.at
  %dims.at = getelementptr i64, ptr %record, i64 3
  %dims = load ptr, ptr %dims.at
  call void @Py_IncRef(ptr %descr)
  %array = call ptr @ng_array_empty(i32 %ndim, ptr %dims, ptr %descr, i32 0)
  %no.array = icmp eq ptr %array, null
  br i1 %no.array, label %no.memory, label %made
no.memory:
  call void @Py_DecRef(ptr %tuple)
  ret ptr null
made:
  %kept = call i32 @PyTuple_SetItem(ptr %tuple, i64 %j, ptr %array)
  %j.next = add i64 %j, 1
  %more = icmp ult i64 %j.next, %outputs
  br i1 %more, label %output, label %free
free:
  ; Asked only now: what the allocations set off may have let another thread in.
  %busy.at = getelementptr i64, ptr %block, i64 5
  %busy = load i64, ptr %busy.at
  %idle = icmp eq i64 %busy, 0
  br i1 %idle, label %run, label %refuse
run:
  %items = getelementptr i8, ptr %tuple, i64 ITEMS_AT
  call void @point(ptr %args, ptr %records, i64 %inputs)
  call void @point(ptr %items, ptr %made.records, i64 %outputs)
  %verdict = call i64 @go(ptr %block)
  %good = icmp eq i64 %verdict, 1
  br i1 %good, label %give, label %refuse
give:
  ret ptr %tuple
refuse:
  %why = phi i64 [3, %free], [%verdict, %run]
  call void @Py_DecRef(ptr %tuple)
  br label %answer
answer:
  %code = phi i64 [0, %entry], [0, %look], [%why, %refuse]
  %result = call ptr @PyLong_FromLongLong(i64 %code)
  ret ptr %result
}
"""
