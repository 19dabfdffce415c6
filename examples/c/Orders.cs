// The C interface from another language: C# declares what it needs of libmq.h and calls it. Nothing is generated.
//
// After `make build`, with a .NET SDK:
//   dotnet run --project examples/c     LD_LIBRARY_PATH=target/release

using System;
using System.Runtime.InteropServices;
using System.Text;

/// <summary>What is used here of libmq.h: handles are numbers, strings are UTF-8, and structs begin with their size.</summary>
internal static class Libmq
{
    public const int Ok = 0, Ack = 1, Accepted = 1;

    [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
    public delegate int Handle(IntPtr ctx, IntPtr delivery);

    [StructLayout(LayoutKind.Sequential)]
    public struct Message
    {
        public uint StructSize;
        public int Dedup, Priority, Durability;
        public IntPtr Body;
        public UIntPtr BodyLen;
        public IntPtr ContentType, DedupKey, CorrelationId, Group, Headers;
        public UIntPtr HeadersLen;
        public long DelayMs, RunAtMs, ExpiresInMs, DedupWindowMs;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct Receipt
    {
        public ulong Id;
        public int Status;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct Handler
    {
        public uint StructSize;
        public int MaxParallelism, MinParallelism, MaxRetries, NoLeaseExtension;
        public long TimeoutMs, CancelGraceMs, BackoffBaseMs, BackoffCapMs;
        public int BackoffFactorPermille, BackoffJitterPermille;
        public IntPtr Ctx;
        public IntPtr Handle;
        public IntPtr Drop;
    }

    [DllImport("mq", EntryPoint = "libmq_broker_open")]
    public static extern int Open([MarshalAs(UnmanagedType.LPUTF8Str)] string path, IntPtr options, out IntPtr broker, out IntPtr error);

    [DllImport("mq", EntryPoint = "libmq_broker_start")]
    public static extern int Start(IntPtr broker, out IntPtr error);

    [DllImport("mq", EntryPoint = "libmq_broker_wait_idle")]
    public static extern int WaitIdle(IntPtr broker, long timeoutMs, out IntPtr error);

    [DllImport("mq", EntryPoint = "libmq_broker_close")]
    public static extern int Close(IntPtr broker, long timeoutMs, out IntPtr error);

    [DllImport("mq", EntryPoint = "libmq_broker_free")]
    public static extern void Free(IntPtr broker);

    [DllImport("mq", EntryPoint = "libmq_handle")]
    public static extern int Register(IntPtr broker, [MarshalAs(UnmanagedType.LPUTF8Str)] string queue, ref Handler handler, out IntPtr error);

    [DllImport("mq", EntryPoint = "libmq_enqueue")]
    public static extern int Enqueue(IntPtr broker, [MarshalAs(UnmanagedType.LPUTF8Str)] string queue, ref Message message, out Receipt receipt, out IntPtr error);

    [DllImport("mq", EntryPoint = "libmq_delivery_body")]
    public static extern IntPtr Body(IntPtr delivery, out UIntPtr length);

    [DllImport("mq", EntryPoint = "libmq_delivery_retry")]
    public static extern int Retry(IntPtr delivery, long delayMs, [MarshalAs(UnmanagedType.LPUTF8Str)] string why, IntPtr noError);

    [DllImport("mq", EntryPoint = "libmq_error_message")]
    public static extern IntPtr ErrorMessage(IntPtr error);

    [DllImport("mq", EntryPoint = "libmq_error_free")]
    public static extern void FreeError(IntPtr error);

    /// <summary>Turns a failed call into an exception.</summary>
    public static void Must(int status, IntPtr error)
    {
        if (status == Ok) return;
        string text = Marshal.PtrToStringUTF8(ErrorMessage(error)) ?? "no more is known";
        FreeError(error);
        throw new InvalidOperationException($"{status}: {text}");
    }
}

internal static class Orders
{
    // No exception may leave a callback: it is a failed attempt, with its text.
    private static int Take(IntPtr ctx, IntPtr delivery)
    {
        const int retry = -1, defer = 5; // LIBMQ_NONE: the backoff; LIBMQ_DEFER: settled already
        try
        {
            IntPtr body = Libmq.Body(delivery, out UIntPtr length);
            Console.WriteLine($"  took the order of {Marshal.PtrToStringUTF8(body, (int)length)}");
            return Libmq.Ack;
        }
        catch (Exception failure)
        {
            Libmq.Retry(delivery, retry, failure.Message, IntPtr.Zero);
            return defer;
        }
    }

    private static void Main()
    {
        Libmq.Must(Libmq.Open("target/orders-cs-data", IntPtr.Zero, out IntPtr broker, out IntPtr error), error);
        Libmq.Handle take = Take; // libmq calls it until the close: it must not be collected
        var handler = new Libmq.Handler
        {
            StructSize = (uint)Marshal.SizeOf<Libmq.Handler>(),
            Handle = Marshal.GetFunctionPointerForDelegate(take),
        };
        Libmq.Must(Libmq.Register(broker, "orders", ref handler, out error), error);
        Libmq.Must(Libmq.Start(broker, out error), error);

        byte[] order = Encoding.UTF8.GetBytes("3 books");
        GCHandle pinned = GCHandle.Alloc(order, GCHandleType.Pinned);
        var message = new Libmq.Message
        {
            StructSize = (uint)Marshal.SizeOf<Libmq.Message>(),
            Body = pinned.AddrOfPinnedObject(),
            BodyLen = (UIntPtr)order.Length,
        };
        Libmq.Must(Libmq.Enqueue(broker, "orders", ref message, out Libmq.Receipt receipt, out error), error);
        pinned.Free();
        Console.WriteLine(receipt.Status == Libmq.Accepted ? "accepted" : "replaced");

        Libmq.Must(Libmq.WaitIdle(broker, 10000, out error), error);
        Libmq.Must(Libmq.Close(broker, 5000, out error), error);
        Libmq.Free(broker);
        GC.KeepAlive(take);
    }
}
